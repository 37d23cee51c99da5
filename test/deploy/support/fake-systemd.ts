/**
 * `systemctl` of the fake root. Which units have failed is what the file `units/failed` says, one a line; the units
 * that its `systemd-run` has started are `units/NAME`. Each call is a line of `log/systemctl`; what it is not made for
 * fails, so that a test notices.
 */
export function fakeSystemctl(root: string): string {
  return `#!/bin/sh
root='${root}'
echo "$*" >> "$root/log/systemctl"
for unit; do :; done
case "$1" in
  list-units)
    if [ -e "$root/units/failed" ]; then
      while read -r failed; do echo "$failed loaded failed failed A unit of the test"; done < "$root/units/failed"
    fi
    ;;
  show)
    pid=$(cat "$root/units/$unit" 2>/dev/null || echo none)
    # One that has ended and was not buried yet has no command line any more.
    words=$({ tr -d '\\0' < "/proc/$pid/cmdline"; } 2>/dev/null)
    if [ -n "$words" ]; then echo active; else echo inactive; fi
    ;;
  kill) kill -9 "-$(cat "$root/units/$unit")" ;;
  reboot) echo reboot >> "$root/log/reboot" ;;
  *) echo "the fake systemctl does not know: $*" >&2; exit 64 ;;
esac
`;
}

/** `systemd-run` of the fake root: a process group of its own with a unit's environment, that outlives its caller. */
export function fakeSystemdRun(root: string): string {
  return `#!/bin/sh
root='${root}'
log=/dev/null
while [ "$1" != -- ]; do
  case "$1" in
    --unit=*) unit=\${1#--unit=} ;;
    --property=StandardOutput=file:*) log=\${1#--property=StandardOutput=file:} ;;
    -*) ;;
    *) echo "the fake systemd-run does not know: $*" >&2; exit 64 ;;
  esac
  shift
done
shift
[ -n "$unit" ] || { echo "the unit has no name" >&2; exit 64; }
# One of that name that the power took with it left its number behind.
rm -f "$root/units/$unit"
env -i PATH=/usr/bin:/bin setsid sh -c 'echo $$ > "$0"; exec "$@"' "$root/units/$unit" "$@" \\
  < /dev/null > "$log" 2>&1 &
until [ -s "$root/units/$unit" ]; do sleep 0.01; done
`;
}

/** `systemd-inhibit` of the fake root lists the lines of the file `units/inhibitors`. */
export function fakeSystemdInhibit(root: string): string {
  return `#!/bin/sh
cat '${root}/units/inhibitors' 2>/dev/null || true
`;
}
