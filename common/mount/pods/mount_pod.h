// SPDX-License-Identifier: Apache-2.0
//
// What a mount pod looks like: its names, the record in its annotations, and
// the object itself. Pure.
//
// The name is a function of node, mount key and pod generation, so that making
// a generation twice is a conflict and never a second pod. A pod's generation
// counts pods; the record's own counts mounts (a successor pod serves the same
// mount on the same descriptor).

#pragma once

#include <map>
#include <optional>
#include <string>

#include "common/base/status.h"
#include "common/config/cluster_config.h"
#include "common/kube/api.h"
#include "common/kube/pod.h"
#include "common/mount/record.h"

namespace moorfs::mount {

inline constexpr char kPodAppLabel[] = "app.kubernetes.io/name";
inline constexpr char kPodApp[] = "moorfs-mount";
inline constexpr char kPodKeyLabel[] = "moorfs.io/mount-key";
inline constexpr char kPodNodeLabel[] = "moorfs.io/node";
inline constexpr char kPodGenerationLabel[] = "moorfs.io/generation";
inline constexpr char kPodServingGate[] = "moorfs.io/serving";
// The emptyDir with the supervisor's socket.
inline constexpr char kPodRunVolume[] = "moorfs-run";

// Of a record's words; the defaults for words that another version wrote.
config::VolumeOptions ClientOptionsOf(const std::string& words);

std::string PodName(std::string_view node, std::string_view mount_key, int pod_generation);
// As a label's value: a longer name becomes a hash.
std::string NodeLabel(std::string_view node);
std::string PodSelector(std::string_view node);

// 0 for a pod that is not one of ours.
int PodGeneration(const kube::Pod& pod);
std::string PodMountKey(const kube::Pod& pod);

using Annotations = std::map<std::string, std::string>;
// All of a record: "moorfs.io/client", "moorfs.io/ref-…", "moorfs.io/vol-…".
Annotations AnnotationsOf(const ClientRecord& record);
// Only what is a record's.
Annotations RecordAnnotations(const Annotations& all);
// nullopt: it has no record. EPROTO names the annotation.
Result<std::optional<ClientRecord>> RecordOfPod(const kube::Pod& pod);
// A merge patch that makes `to` of `from`.
kube::Json AnnotationPatch(const Annotations& from, const Annotations& to);

// EINVAL: the volume cannot be served in a mount pod (see config::ClaimOf).
Result<kube::Json> BuildPod(const ClientRecord& record, int pod_generation, const std::string& node,
                            const config::MountPodConfig& config);

}  // namespace moorfs::mount
