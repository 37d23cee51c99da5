/**
 * `switch-to-configuration` of the test's systems. It finds the fake root by its own path, does what NixOS's does of
 * the things that are looked at - the boot loader's default for `switch` and `boot`, /run/current-system for `switch`
 * and `test` -, and writes a line to `log/switch` when it begins and when it ends: a system whose line of the end is
 * missing is half made. In between it runs the commands of the file `behaviour/LABEL`, which may fail, hang, break
 * the network or kill the agent, with `$root`, `$action` and `$label` set. As NixOS's it does nothing while another one
 * is at work: one whose agent was killed just as it began, say.
 */
export const SWITCH_SCRIPT: string = `#!/bin/sh
system=\${0%/bin/switch-to-configuration}
root=\${system%/nix/store/*}
logical=\${system#"$root"}
action=$1
label=$(cat "$system/label")
exec 8> "$root/run/switch.lock"
flock -n 8 || { echo "Could not acquire lock" >&2; exit 1; }
echo "begin $action $label" >> "$root/log/switch"
end() {
  code=$?
  echo "end $action $label $code" >> "$root/log/switch"
  exit $code
}
trap end EXIT
set -e
put() {
  ln -sfn "$logical" "$1.new"
  mv -T "$1.new" "$1"
}
case $action in
  switch | boot) put "$root/boot/default" ;;
  test | dry-activate) ;;
  *) echo "what is $action?" >&2; exit 1 ;;
esac
if [ -e "$root/behaviour/$label" ]; then . "$root/behaviour/$label"; fi
case $action in
  switch | test) put "$root/run/current-system" ;;
esac
if [ -e "$root/behaviour/$label.after" ]; then . "$root/behaviour/$label.after"; fi
echo "$action of $label is done"
`;
