// Package check holds tests of what lies in deploy: that the compose files and the Kubernetes manifests are what their engines
// take, and that they keep the project's rules. It is a module of its own, so that nothing else depends on what reads these
// files.
package check
