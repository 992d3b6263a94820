// SPDX-License-Identifier: Apache-2.0

//go:build tools

// Names the command that test/cluster/build builds, so that 'go mod tidy' keeps
// what it needs in go.mod and go.sum. Never compiled.
package tools

import _ "helm.sh/helm/v3/cmd/helm"
