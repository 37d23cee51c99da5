/**
 * `systemctl` of the fake root. Which units have failed is what the file `units/failed` says, one a line. Each call is
 * a line of `log/systemctl`; what it is not made for fails, so that a test notices.
 */
export function fakeSystemctl(root: string): string {
  return `#!/bin/sh
root='${root}'
echo "$*" >> "$root/log/systemctl"
failed() {
  if [ -e "$root/units/failed" ]; then cat "$root/units/failed"; fi
}
case " $* " in
  *" list-units "* | *" --failed "*)
    case " $* " in
      *json*)
        printf '['
        separator=
        failed | while read -r unit; do
          printf '%s{"unit":"%s","load":"loaded","active":"failed","sub":"failed","description":"%s"}' \\
            "$separator" "$unit" "$unit"
          separator=,
        done
        echo ']'
        ;;
      *) failed | while read -r unit; do echo "$unit loaded failed failed $unit"; done ;;
    esac
    ;;
  *" is-system-running "*) if [ -s "$root/units/failed" ]; then echo degraded; exit 1; else echo running; fi ;;
  *" daemon-reload "* | *" reset-failed "*) ;;
  *" reboot "*) echo reboot >> "$root/log/reboot" ;;
  *) echo "the fake systemctl does not know: $*" >&2; exit 64 ;;
esac
`;
}
