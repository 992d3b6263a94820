# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# The installer's DaemonSet beside a running kubelet: its driver is found without a
# restart, replaced while mounts live, and taken away only when none does.

# The door with a higher version.
MOORFS_FLEX_NEXT=$(realpath -m "${MOORFS_FLEX_NEXT:-$(dirname "$MOORFS")/test/unit/installer/moorfs-flex-next}")
FLEX_PROGRAM_OF_KUBELET=moorfs.io~moorfs-flex/moorfs-flex
flex_program() { printf '%s\n' "$PLUGINS/$FLEX_PROGRAM_OF_KUBELET"; }
inode_of() { stat -c %i "$1" 2>/dev/null || echo none; }

installer() {
  local before kubelet
  [ -x "$(flex_program)" ] || die "the installer has put no $(flex_program): $(find "$PLUGINS")"
  is_installed "$MOORFS_FLEX" || die "the installed program is another one than in the image"
  kubelet=$(pid_of kubelet)
  timed_pod user "$FLEX_VOLUME"
  expect 1 1 "a pod with a FlexVolume"
  [ "$(pid_of kubelet)" = "$kubelet" ] && must_run kubelet
  did "kubelet, which was there first, has found the driver; a pod is Ready after $TOOK s"
  # It stays to put it back.
  rm "$(flex_program)"
  eventually 90 "the installer puts a lost driver back" test -x "$(flex_program)"
  did "a lost driver is put back"
  # Upgrade: another image, with a program that differs, beside a live mount.
  before=$(inode_of "$(flex_program)")
  newer_image
  kubectl -n "$SYSTEM" set image daemonset/moorfs-installer "installer=$IMAGE-newer" >/dev/null
  rolled_out daemonset/moorfs-installer
  [ "$(inode_of "$(flex_program)")" != "$before" ] && is_installed "$MOORFS_FLEX_NEXT" || die "the driver was not replaced"
  timed_pod other "$FLEX_VOLUME"
  expect 1 2 "a pod by the newer driver"
  did "upgraded beside a live mount; a pod is Ready after $TOOK s"
  kubectl -n "$SYSTEM" set image daemonset/moorfs-installer "installer=$IMAGE" >/dev/null
  eventually 60 "the older installer refuses a downgrade" installer_says "downgrade"
  is_installed "$MOORFS_FLEX_NEXT" || die "the driver was replaced by an older one"
  did "the older image refuses to downgrade it"
  refused_uninstall
  delete_pods user other
  expect 0 0 "no pod"
  uninstalled
}
# The image has it without debug sections.
is_installed() { # PROGRAM
  strip --strip-debug --enable-deterministic-archives -o "$WORK/tmp/stripped" "$1"
  cmp -s "$(flex_program)" "$WORK/tmp/stripped"
}
newer_image() {
  mkdir -p "$WORK/newer"
  "$TOP/installer/image" --moorfs "$MOORFS" --moorfs-flex "$MOORFS_FLEX_NEXT" --tag "$IMAGE-newer" "$WORK/newer/image.tar" \
    >"$WORK/log/image.log" 2>&1 || die "installer/image: $(tail -n 3 "$WORK/log/image.log")"
  import_image "$WORK/newer/image.tar"
}
installer_says() {
  kubectl -n "$SYSTEM" get pods -l app.kubernetes.io/name=moorfs-installer \
    -o 'jsonpath={.items[*].status.containerStatuses[*]}' | grep -q "$1"
}
uninstaller_says() {
  kubectl -n moorfs-uninstall get pods -o 'jsonpath={.items[*].status.initContainerStatuses[*]}' 2>/dev/null | grep -q "$1"
}
refused_uninstall() {
  kubectl -n "$SYSTEM" delete daemonset moorfs-installer --timeout=60s >/dev/null
  kubectl apply -k "$MANIFESTS/uninstall" >/dev/null
  eventually 60 "the uninstaller refuses" uninstaller_says "moorfs-flex"
  [ -x "$(flex_program)" ] || die "the driver went while it had mounts"
  kubectl -n moorfs-uninstall get pods -o 'jsonpath={.items[*].status.initContainerStatuses[*].lastState.terminated.message}' | head -n 3 | cut -c1-400 | sed 's/^/    /'
  did "uninstall refuses while FlexVolume mounts live"
  kubectl delete -k "$MANIFESTS/uninstall" --timeout=60s >/dev/null
}
uninstalled() {
  kubectl apply -k "$MANIFESTS/uninstall" >/dev/null
  kubectl -n moorfs-uninstall rollout status daemonset/moorfs-uninstaller --timeout=90s >/dev/null || die "the uninstaller is not Ready"
  [ ! -e "$(dirname "$(flex_program)")" ] || die "left by the uninstaller: $(find "$PLUGINS")"
  kubectl delete -k "$MANIFESTS/uninstall" --timeout=60s >/dev/null
  did "uninstalled: nothing is left in $PLUGINS"
  kubectl apply -k "$OVERLAY" >/dev/null
  configure "c['fileSystems']['main']['openToPods'] = True"   # applied as shipped, it is closed again
  rolled_out daemonset/moorfs-installer
  rolled_out daemonset/moorfs-node
  timed_pod user "$FLEX_VOLUME"
  delete_pods user
  expect 0 0 "no pod"
  did "and installed again; a pod is Ready after $TOOK s"
}
