// Package check tests the contents of deploy: that the engines accept the compose files and the Kubernetes manifests,
// and that these keep the project's rules.
package check
