package check_test

import (
	"fmt"
	"maps"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"
)

// newObject returns the Kubernetes API's own type for a document's version and kind.
var newObject = map[string]func() any{
	"v1/Namespace":                           func() any { return &corev1.Namespace{} },
	"v1/ConfigMap":                           func() any { return &corev1.ConfigMap{} },
	"v1/Secret":                              func() any { return &corev1.Secret{} },
	"v1/Service":                             func() any { return &corev1.Service{} },
	"v1/PersistentVolume":                    func() any { return &corev1.PersistentVolume{} },
	"v1/PersistentVolumeClaim":               func() any { return &corev1.PersistentVolumeClaim{} },
	"apps/v1/Deployment":                     func() any { return &appsv1.Deployment{} },
	"apps/v1/StatefulSet":                    func() any { return &appsv1.StatefulSet{} },
	"batch/v1/Job":                           func() any { return &batchv1.Job{} },
	"networking.k8s.io/v1/NetworkPolicy":     func() any { return &networkingv1.NetworkPolicy{} },
	"policy/v1/PodDisruptionBudget":          func() any { return &policyv1.PodDisruptionBudget{} },
	"autoscaling/v2/HorizontalPodAutoscaler": func() any { return &autoscalingv2.HorizontalPodAutoscaler{} },
}

// workload is whatever runs pods.
type workload struct {
	kind, name string
	replicas   int32
	selector   map[string]string
	template   corev1.PodTemplateSpec
}

// cluster is the result of the manifests.
type cluster struct {
	objects   map[string]any // by kind/name
	workloads map[string]workload
}

// build builds an overlay and decodes each document strictly: a field that the API does not know, or that has another
// type, fails the test.
func build(t *testing.T, dir string) cluster {
	result, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), dir)
	require.NoError(t, err)

	c := cluster{objects: map[string]any{}, workloads: map[string]workload{}}
	for _, r := range result.Resources() {
		text, err := r.AsYAML()
		require.NoError(t, err)

		gvk := r.GetGvk().ApiVersion() + "/" + r.GetKind()
		require.Contains(t, newObject, gvk, "a kind that this test does not know")
		object := newObject[gvk]()
		require.NoError(t, yaml.UnmarshalStrict(text, object), "%s %s", gvk, r.GetName())
		c.objects[r.GetKind()+"/"+r.GetName()] = object
		c.add(object)
	}

	return c
}

func (c cluster) add(object any) {
	var w workload
	switch o := object.(type) {
	case *appsv1.Deployment:
		w = workload{"Deployment", o.Name, count(o.Spec.Replicas), o.Spec.Selector.MatchLabels, o.Spec.Template}
	case *appsv1.StatefulSet:
		w = workload{"StatefulSet", o.Name, count(o.Spec.Replicas), o.Spec.Selector.MatchLabels, o.Spec.Template}
	case *batchv1.Job:
		w = workload{"Job", o.Name, 1, nil, o.Spec.Template}
	default:
		return
	}

	c.workloads[w.name] = w
}

func count(n *int32) int32 {
	if n == nil {
		return 1
	}
	return *n
}

const (
	example    = "../kubernetes/overlays/example"
	everything = "testdata/everything"
)

func TestManifestsAreWhatTheAPITakes(t *testing.T) {
	for _, dir := range []string{example, everything} {
		c := build(t, dir)
		names := []string{"bobosync-ingest", "bobosync-resolver", "bobosync-publisher", "bobosync-janitor", "bobosync-provision", "nats"}
		for _, name := range names {
			require.Contains(t, c.workloads, name)
		}

		require.Len(t, c.workloads, len(names))
	}
}

func TestPodsKeepTheRules(t *testing.T) {
	c, known := build(t, example), knownSettings(t)
	for name, w := range c.workloads {
		spec := w.template.Spec
		require.False(t, *spec.AutomountServiceAccountToken, name)
		require.True(t, *spec.SecurityContext.RunAsNonRoot, name)
		require.Equal(t, int64(65532), *spec.SecurityContext.RunAsUser, name)
		require.Equal(t, corev1.SeccompProfileTypeRuntimeDefault, spec.SecurityContext.SeccompProfile.Type, name)

		for key, value := range w.selector {
			require.Equal(t, value, w.template.Labels[key], "%s selects what it does not make", name)
		}

		require.Len(t, spec.Containers, 1, name)
		checkContainer(t, known, w, spec.Containers[0])
		checkReferences(t, c, w)
	}

	for _, name := range []string{"bobosync-publisher", "bobosync-janitor"} { // a call takes up to 30s
		require.Greater(t, *c.workloads[name].template.Spec.TerminationGracePeriodSeconds, int64(40), name)
	}

	for _, name := range []string{"bobosync-ingest", "bobosync-resolver"} {
		require.Equal(t, int32(1), c.workloads[name].replicas, name)
		require.Equal(t, "StatefulSet", c.workloads[name].kind, name)
	}
}

func checkContainer(t *testing.T, known map[string]bool, w workload, container corev1.Container) {
	t.Helper()

	s := container.SecurityContext
	require.True(t, *s.ReadOnlyRootFilesystem, w.name)
	require.False(t, *s.AllowPrivilegeEscalation, w.name)
	require.Equal(t, []corev1.Capability{"ALL"}, s.Capabilities.Drop, w.name)
	require.False(t, container.Resources.Limits.Memory().IsZero(), w.name)
	require.Contains(t, container.Image, "registry.example.org/bobosync/", "%s: an image that the overlay does not place", w.name)

	if w.kind != "Job" {
		require.NotNil(t, container.LivenessProbe, w.name)
		require.NotNil(t, container.ReadinessProbe, w.name)
		require.NotNil(t, container.StartupProbe, w.name)
	}

	for _, e := range container.Env {
		requireKnown(t, known, w.name, e.Name)
	}
}

// checkReferences checks that whatever a pod mounts or reads exists, and that its paths lead into mounted volumes.
func checkReferences(t *testing.T, c cluster, w workload) {
	t.Helper()

	spec, container := w.template.Spec, w.template.Spec.Containers[0]
	keys := map[string][]string{} // by volume
	for _, v := range spec.Volumes {
		switch {
		case v.Secret != nil:
			secret, ok := c.objects["Secret/"+v.Secret.SecretName].(*corev1.Secret)
			require.True(t, ok, "%s mounts secret %s", w.name, v.Secret.SecretName)
			require.Equal(t, int32(0o440), *v.Secret.DefaultMode, "%s: who may read secret %s", w.name, v.Secret.SecretName)

			for key := range secret.Data {
				keys[v.Name] = append(keys[v.Name], key)
			}
		case v.ConfigMap != nil:
			config, ok := c.objects["ConfigMap/"+v.ConfigMap.Name].(*corev1.ConfigMap)
			require.True(t, ok, "%s mounts config map %s", w.name, v.ConfigMap.Name)

			for key := range config.Data {
				keys[v.Name] = append(keys[v.Name], key)
			}
		case v.PersistentVolumeClaim != nil:
			require.Contains(t, c.objects, "PersistentVolumeClaim/"+v.PersistentVolumeClaim.ClaimName, w.name)
		}
	}

	there := map[string]bool{}
	for _, m := range container.VolumeMounts {
		for _, key := range keys[m.Name] {
			there[m.MountPath+"/"+key] = true
		}
	}

	for _, e := range container.Env {
		if strings.HasPrefix(e.Value, "/run/secrets/") {
			require.True(t, there[e.Value], "%s: %s is %s, where nothing is mounted", w.name, e.Name, e.Value)
		}
	}

	for _, from := range container.EnvFrom {
		require.Contains(t, c.objects, "ConfigMap/"+from.ConfigMapRef.Name, w.name)
	}
}

// matches reports whether a selector takes a workload's pods.
func matches(selector map[string]string, w workload) bool {
	for key, value := range selector {
		if w.template.Labels[key] != value {
			return false
		}
	}

	return true
}

func (c cluster) selected(selector map[string]string) (names []string) {
	for _, w := range c.workloads {
		if matches(selector, w) {
			names = append(names, w.name)
		}
	}

	return names
}

func TestServicesAndBudgetsFindTheirPods(t *testing.T) {
	c := build(t, everything)
	for name, object := range c.objects {
		switch o := object.(type) {
		case *corev1.Service:
			require.Len(t, c.selected(o.Spec.Selector), 1, name)
		case *policyv1.PodDisruptionBudget:
			found := c.selected(o.Spec.Selector.MatchLabels)
			require.Len(t, found, 1, name)
			require.Greater(t, c.workloads[found[0]].replicas+1, int32(1), "%s would never let a node go", name)
		case *autoscalingv2.HorizontalPodAutoscaler:
			require.Contains(t, c.objects, o.Spec.ScaleTargetRef.Kind+"/"+o.Spec.ScaleTargetRef.Name)
			deployment := c.objects["Deployment/"+o.Spec.ScaleTargetRef.Name].(*appsv1.Deployment)
			require.Nil(t, deployment.Spec.Replicas, "who scales decides how many there are")
		case *appsv1.StatefulSet:
			require.Contains(t, c.objects, "Service/"+o.Spec.ServiceName, name)
		}
	}
}

// TestNobodyTalksUnlessAllowed checks that everything is denied by default, that only callers of AtHoc get out, and
// that the broker admits its clients.
func TestNobodyTalksUnlessAllowed(t *testing.T) {
	c := build(t, example)
	outside := map[string]bool{}
	toBroker := map[string]bool{}
	denied := false
	for _, object := range c.objects {
		policy, ok := object.(*networkingv1.NetworkPolicy)
		if !ok {
			continue
		}

		denied = denied || len(policy.Spec.PodSelector.MatchLabels) == 0 && len(policy.Spec.Egress)+len(policy.Spec.Ingress) == 0 && len(policy.Spec.PolicyTypes) == 2
		for _, rule := range policy.Spec.Egress {
			require.NotEmpty(t, rule.Ports, policy.Name)
			require.NotEmpty(t, rule.To, policy.Name)

			for _, name := range c.selected(policy.Spec.PodSelector.MatchLabels) {
				outside[name] = outside[name] || rule.To[0].IPBlock != nil
				toBroker[name] = toBroker[name] || rule.Ports[0].Port.IntValue() == 4222
			}
		}
	}

	require.True(t, denied, "a policy denies everything")

	services := map[string]bool{"bobosync-ingest": false, "bobosync-resolver": false, "bobosync-provision": false, "bobosync-publisher": true, "bobosync-janitor": true}
	want := maps.Clone(services)
	want["nats"] = false
	require.Equal(t, want, outside)

	for name := range services {
		require.True(t, toBroker[name], name)
	}

	require.ElementsMatch(t, []string{"bobosync-ingest", "bobosync-resolver", "bobosync-provision", "bobosync-publisher", "bobosync-janitor"},
		c.selected(map[string]string{"bobosync/broker": "client"}))
}

// TestTheExampleSetsWhatIsKnown checks that the example sets only settings that programs read.
func TestTheExampleSetsWhatIsKnown(t *testing.T) {
	c, known := build(t, example), knownSettings(t)
	found := false
	for name, object := range c.objects {
		config, ok := object.(*corev1.ConfigMap)
		if !ok || !strings.HasPrefix(config.Name, "bobosync-settings") {
			continue
		}

		found = true

		for key := range config.Data {
			requireKnown(t, known, name, key)
		}

		require.Equal(t, "3", config.Data["STREAM_REPLICAS"], fmt.Sprint("as many as there are servers of ", name))
	}

	require.True(t, found)
}

// TestTheConsoleIsAPodAsTheOthers checks that the console follows the same rules, is reached through the ingress
// only, and has neither a way out nor AtHoc's secrets.
func TestTheConsoleIsAPodAsTheOthers(t *testing.T) {
	c := build(t, "testdata/console")
	w, there := c.workloads["bobosync-console"]
	require.True(t, there)
	require.True(t, *w.template.Spec.SecurityContext.RunAsNonRoot)
	require.False(t, *w.template.Spec.AutomountServiceAccountToken)
	checkContainer(t, knownSettings(t), w, w.template.Spec.Containers[0])
	checkReferences(t, c, w)
	require.True(t, matches(map[string]string{"bobosync/broker": "client"}, w))
	require.False(t, matches(map[string]string{"bobosync/athoc": "client"}, w))

	for _, v := range w.template.Spec.Volumes {
		require.False(t, v.Secret != nil && v.Secret.SecretName == "athoc", "it has AtHoc's secrets")
	}

	require.Equal(t, []string{w.name}, c.selected(c.objects["Service/bobosync-console"].(*corev1.Service).Spec.Selector))
	policy, ok := c.objects["NetworkPolicy/from-ingress"].(*networkingv1.NetworkPolicy)
	require.True(t, ok)
	require.Equal(t, []string{w.name}, c.selected(policy.Spec.PodSelector.MatchLabels))
	require.Equal(t, int32(8470), policy.Spec.Ingress[0].Ports[0].Port.IntVal)

	settings := c.objects["ConfigMap/"+w.template.Spec.Containers[0].EnvFrom[1].ConfigMapRef.Name].(*corev1.ConfigMap).Data
	for name := range settings {
		requireKnown(t, knownSettings(t), w.name, name)
	}
}
