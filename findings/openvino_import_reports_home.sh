#!/usr/bin/env bash
# Guess:     importing an inference runtime sends nothing anywhere; telemetry asks first.
# Behaviour: `import openvino` reports the import, and `ov.convert_model` the conversion, to Google Analytics through the
#            package openvino-telemetry, a hard requirement of the wheel. No consent is asked for from Python: "no file
#            of consent" counts as yes. It writes a client id below the home folder. With CI=true it does not, so that
#            builds never show it. Where the telemetry package cannot be imported, OpenVINO uses a stub and works as well.
# Versions:  openvino 2026.4.1, openvino-telemetry 2025.2.0
# Source:    https://docs.openvino.ai/ (OpenVINO Telemetry: "enabled by default", opt_in_out --opt_out);
#            openvino/tools/ovc/__init__.py (send_event at import, enable_opt_in_dialog=False)
# Matters:   a robot behind a firewall, or in somebody's flat, tells a server when it starts, and a node's import leaves
#            a thread that tries to connect.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q 'openvino==2026.4.1' 'openvino-telemetry==2025.2.0' 'numpy==2.4.6'
cd "$tmp"
cat > watch.py <<'PY'
"""Imports openvino, and counts the events that its telemetry is asked to send with a consent that nobody gave."""
import sys

events = []
if "hidden" in sys.argv:
    sys.modules["openvino_telemetry"] = None
else:
    from openvino_telemetry.main import Telemetry

    Telemetry.send_event = lambda self, *event, **_: events.append((self.consent, event))
import openvino  # noqa: E402

print(sum(consent for consent, _ in events), hasattr(openvino, "convert_model"))
PY
unset CI TF_BUILD JENKINS_URL
HOME="$tmp/home1" ; mkdir -p "$HOME"; export HOME
asked=$("$tmp/venv/bin/python" watch.py)
HOME="$tmp/home2" ; mkdir -p "$HOME"; export HOME
hidden=$("$tmp/venv/bin/python" watch.py hidden)
echo "events at import: $asked; telemetry hidden: $hidden"
echo "written below the home folder: $(cd "$tmp/home1" && find . -type f | tr '\n' ' ')"
[ "${asked%% *}" -ge 1 ] && [ "$hidden" = "0 True" ] && [ -n "$(find "$tmp/home1" -type f)" ]
