// SPDX-License-Identifier: Apache-2.0
//
// The roles that speak CSI; each is the main() of its process and returns its
// exit code.

#pragma once

namespace moorfs::csi {

// `moorfs node …`: Identity and Node for kubelet, the agent's socket for the
// FlexVolume door, the mount manager behind both.
int NodeMain(int argc, char** argv);
// `moorfs controller …`: Identity and Controller for the external-provisioner.
int ControllerMain(int argc, char** argv);

// `moorfs csi METHOD [JSON]`: one call to a CSI socket by hand.
int AskMain(int argc, char** argv);

// `moorfs lint-volumes [FILE]`: what is wrong with PersistentVolumes.
int LintMain(int argc, char** argv);

}  // namespace moorfs::csi
