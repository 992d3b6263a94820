// SPDX-License-Identifier: Apache-2.0

//go:build tools

// Names the commands that test/cluster/build builds, so that 'go mod tidy' keeps
// what they need in go.mod and go.sum. Never compiled.
package tools

import (
	_ "k8s.io/kubernetes/cmd/kube-apiserver"
	_ "k8s.io/kubernetes/cmd/kube-controller-manager"
	_ "k8s.io/kubernetes/cmd/kube-scheduler"
	_ "k8s.io/kubernetes/cmd/kubectl"
	_ "k8s.io/kubernetes/cmd/kubelet"
)
