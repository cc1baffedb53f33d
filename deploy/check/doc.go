// Package check holds tests of what lies in deploy: that the compose files and the Kubernetes manifests are what their engines
// take, and that they keep the project's rules.
package check
