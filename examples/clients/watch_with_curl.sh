#!/usr/bin/env bash
# Watches a session with curl, and resumes where the stream broke:
#
#     bash watch_with_curl.sh http://127.0.0.1:4141 ses_…

set -u
export LC_ALL=C
url="$1/v1/sessions/$2/events"
cursor=
retry_ms=2000
headers=(-H 'Accept: text/event-stream')
if [ -n "${PLAYHEAD_TOKEN:-}" ]; then headers+=(-H "Authorization: Bearer $PLAYHEAD_TOKEN"); fi

while :; do
  event= data= id=
  while IFS= read -r line; do
    case $line in
      'event: '*) event=${line#event: } ;;
      'data: '*) data=${line#data: } ;;
      'id: '*) id=${line#id: } ;;
      'retry: '*) retry_ms=${line#retry: } ;;
      '')
        # Only now the frame is whole, and its id the place to resume from.
        if [ "$event" = end ]; then exit 0; fi
        if [ -n "$id" ]; then printf '%s %s\n' "$id" "$data"; cursor=$id; fi
        event= data= id=
        ;;
      ': status 204') exit 0 ;;  # nothing is left
      ': status 4'*) echo "refused: ${line#: status }" >&2; exit 1 ;;
    esac
  done < <(curl -sN -m 3600 "${headers[@]}" ${cursor:+-H "Last-Event-ID: $cursor"} -w '\n: status %{http_code}\n' "$url")
  sleep "$((retry_ms / 1000)).$(printf '%03d' "$((retry_ms % 1000))")"
done
