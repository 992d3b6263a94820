# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# client_pid MOUNTPOINT: the pid of the client that serves it now. Needs $MOORFS.

client_pid() {
  "$MOORFS" status --json "$1" | python3 -c '
import json, sys
status = json.load(sys.stdin)
if isinstance(status, list): status = status[0]
if "mounts" in status: status = status["mounts"][0]
print(status["client_pid"])'
}
