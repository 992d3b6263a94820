# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# Pods at random over several volumes, with agents killed and the agent's connection to
# the API server broken in every way that test/support/fault_proxy.py knows. Afterwards
# references and mounts agree, nothing is left, and no live mount pod was deleted.

CONTROL=127.0.0.1:7480
through_proxy() {
  launch fault-proxy "$TOP/test/support/fault_proxy.py" --listen 127.0.0.1:7443 --cert "$WORK/api.crt" --key "$WORK/api.key" \
    --upstream "$API_IP:443" --upstream-ca "$WORK/api.crt" --control "$CONTROL"
  eventually 10 "the proxy listens" grep -q ready "$WORK/log/fault-proxy.log"
  kubectl -n "$SYSTEM" patch daemonset moorfs-node --type=json \
    -p '[{"op": "add", "path": "/spec/template/spec/containers/0/args/-", "value": "--kube-server=https://127.0.0.1:7443"}]' >/dev/null
  rolled_out daemonset/moorfs-node
}
# An added list element is the patch's own, which apply leaves alone.
without_proxy() {
  kubectl -n "$SYSTEM" get daemonset moorfs-node -o json | python3 -c 'import json, sys
daemonset = json.load(sys.stdin)
args = daemonset["spec"]["template"]["spec"]["containers"][0]["args"]
daemonset["spec"]["template"]["spec"]["containers"][0]["args"] = [each for each in args if "7443" not in each]
json.dump(daemonset, sys.stdout)' | kubectl replace -f - >/dev/null 2>&1
}
straight() {
  # Its status changes all the time.
  eventually 20 "the agent's DaemonSet is changed" without_proxy
  rolled_out daemonset/moorfs-node
  finish fault-proxy
}

storm() {
  local pods=40 each volumes=(main v1 v2) status=0
  [ -z "${FULL:-}" ] || { pods=200; volumes+=(v3 v4); }
  configure "c['fileSystems'].update({each: {'meta': 'leveldb:/volumes/%s/meta' % each, 'openToPods': True} for each in '${volumes[*]:1}'.split()})"
  for each in "${volumes[@]}"; do
    [ "$each" = main ] || { local_volume "$each"; format_volume "$each"; }
    static_volume "static-$each" "$each"
  done
  through_proxy
  did "${#volumes[@]} file systems, the agent behind a proxy that breaks things"
  "$CLUSTER/storm.py" "$KUBECONFIG" --pods "${STORM_PODS:-$pods}" --volumes "${volumes[@]}" --control "$CONTROL" ${STORM_SEED:+--seed "$STORM_SEED"} || status=1
  say "  faults: $(curl -sf -m 5 "$CONTROL/counters" | cut -c1-300)"
  [ "$status" = 0 ] || die "the storm: $(references 2>&1)"
  eventually 90 "references and mounts agree: none" shows 0 0
  did "references equal live targets: none of either; no live mount pod was deleted"
  straight
  did "the agent talks to the API server itself again"
}
