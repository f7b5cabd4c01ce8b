#!/usr/bin/env bash
# Streams from OBS Studio without a screen: 640x360, 30 frames a second, x264 with 800 kbit/s and AAC with 96 kbit/s.
set -euo pipefail

usage() {
    cat <<'END'
Usage: tests/obs/run-obs.sh FOLDER URL KEY

Streams to URL with the stream key KEY until the script gets SIGTERM, then stops the stream as a user does. OBS reconnects five times, one
second after the end of a connection. Its log goes to standard output, its configuration to FOLDER, which must be empty.

Debian: apt-get install --no-install-recommends obs-studio obs-plugins xvfb libgl1-mesa-dri

Example:
  tests/obs/run-obs.sh "$(mktemp -d)" rtmp://127.0.0.1/live livestream
END
}

[ $# -eq 3 ] || { usage >&2; exit 2; }
folder=$1 url=$2 key=$3
settings=$folder/.config/obs-studio
profile=$settings/basic/profiles/Test
mkdir -p "$profile" "$settings/basic/scenes"

# LastVersion is 29.0.2, so that no dialog about a new version opens.
cat >"$settings/global.ini" <<'END'
[General]
FirstRun=true
EnableAutoUpdates=false
LastVersion=486539266

[Basic]
Profile=Test
ProfileDir=Test
SceneCollection=Test
SceneCollectionFile=Test
END

cat >"$profile/basic.ini" <<'END'
[General]
Name=Test

[Output]
Mode=Simple
Reconnect=true
RetryDelay=1
MaxRetries=5

[SimpleOutput]
StreamEncoder=x264
VBitrate=800
ABitrate=96

[Video]
BaseCX=640
BaseCY=360
OutputCX=640
OutputCY=360
FPSCommon=30

[Audio]
SampleRate=44100
END

cat >"$profile/service.json" <<END
{ "type": "rtmp_custom", "settings": { "server": "$url", "key": "$key", "use_auth": false, "bwtest": false } }
END

cat >"$settings/basic/scenes/Test.json" <<'END'
{
    "name": "Test",
    "current_scene": "Scene",
    "current_program_scene": "Scene",
    "scene_order": [{ "name": "Scene" }],
    "sources": [
        {
            "id": "color_source_v3",
            "versioned_id": "color_source_v3",
            "name": "Colour",
            "settings": { "color": 4289344512, "width": 640, "height": 360 }
        },
        {
            "id": "scene",
            "versioned_id": "scene",
            "name": "Scene",
            "settings": { "items": [{ "id": 1, "name": "Colour", "visible": true }], "id_counter": 1 }
        }
    ]
}
END

# Xvfb chooses a free display and writes its number to the pipe.
exec {display}< <(exec setpriv --pdeathsig KILL Xvfb -displayfd 1 -screen 0 1024x768x24 -nolisten tcp +extension GLX 2>/dev/null)
xvfb=$!
obs=
# SIGTERM to OBS ends the stream as the button does; OBS hangs at times after that, so its end has a limit.
finish() {
    trap '' INT TERM
    if [ -n "$obs" ]; then
        kill "$obs" 2>/dev/null || true
        for _ in $(seq 50); do
            kill -0 "$obs" 2>/dev/null || break
            sleep 0.1
        done
        kill -KILL "$obs" 2>/dev/null || true
    fi
    kill "$xvfb" 2>/dev/null || true
}
trap finish EXIT
trap 'exit 0' INT TERM
read -r -t 60 number <&"$display" || { echo "Xvfb does not start" >&2; exit 1; }

export HOME=$folder DISPLAY=:$number LIBGL_ALWAYS_SOFTWARE=1 QT_QPA_PLATFORM=xcb
unset XDG_CONFIG_HOME XDG_RUNTIME_DIR WAYLAND_DISPLAY
setpriv --pdeathsig KILL obs --startstreaming --profile Test --collection Test --multi 2>&1 &
obs=$!
wait "$obs" || true
obs=
