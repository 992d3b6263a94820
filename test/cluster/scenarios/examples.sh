# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# Examples of manifests/ with pods (--full: every one), applied as they are (the image of
# the pods is the tests' own): pods come up and can use their volume, and are deleted again.

examples() {
  local each pods
  for each in static statefulset flex-inline ${FULL:+dynamic subdir read-only csi-inline flex-pv}; do
    example "$each" | kubectl apply -f - >"$WORK/log/example.log" 2>&1 || die "example $each: $(tail -n 3 "$WORK/log/example.log")"
    eventually 60 "example $each has pods" example_has_pods
    pods=$(kubectl get pods -o name)
    # shellcheck disable=SC2086
    kubectl wait --for=condition=Ready $pods --timeout=60s >/dev/null ||
      die "example $each: $(kubectl get pods --no-headers | tr '\n' ';') $(event_of default "$(sed 's,.*/,,;q' <<<"$pods")" | tail -n 3)"
    sleep 1   # a pod that cannot write ends
    [ "$(kubectl get pods -o 'jsonpath={.items[*].status.containerStatuses[*].restartCount}' | tr -d ' 0')" = "" ] ||
      die "example $each: a pod was restarted: $(kubectl logs --previous "$(head -n 1 <<<"$pods")" | tail -n 3)"
    example_is_mounted "$each" || die "example $each: $(references 2>&1)"
    example "$each" | kubectl delete --timeout=90s -f - >/dev/null || die "example $each is not deleted"
    kubectl delete pvc -l app=letters --timeout=60s >/dev/null
    eventually 60 "example $each leaves no pod" example_has_no_pods
    expect 0 0 "example $each is deleted"
    did "example $each: $(wc -w <<<"$pods") pod(s) Ready on their volume, and gone"
  done
}
example_has_pods() { [ -n "$(kubectl get pods -o name)" ]; }
example_has_no_pods() { [ -z "$(kubectl get pods -o name)" ]; }
example_is_mounted() {
  local found
  found=$(references) || return 1
  [[ $found =~ ^mount\ pods\ 1\ references\ [1-9] ]]
}
