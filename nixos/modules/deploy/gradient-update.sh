# Deploys now what Gradient built for this host, prints what the run said, and ends with the run's exit code.
#
#   gradient-update [--allow-older | --force]
set -u

word=
for given in "$@"; do
  case $given in
    # It takes also what is older.
    --force) word=$given ;;
    --allow-older) word=${word:-$given} ;;
    *)
      echo "usage: gradient-update [--allow-older | --force]" >&2
      @agent@ --help | grep --after-context=1 --extended-regexp '^ *--(allow-older|force)$' >&2
      exit 2
      ;;
  esac
done

unit=gradient-deploy${word:+@$word}.service
of_unit() {
  systemctl show --property "$1" --value "$unit"
}

case $(of_unit ActiveState)/$(of_unit SubState) in
  # It waits to try again; a start would only wait with it.
  */auto-restart*) systemctl stop "$unit" ;;
  activating/* | deactivating/*) echo "gradient-update: a run is at work already; waiting for its end" >&2 ;;
esac

# Runs that failed before do not count against who looks after the host.
systemctl reset-failed "$unit" 2> /dev/null
since=$(date +%s)
systemctl start "$unit"
started=$?
# To systemd, a build that is held back or a host that is busy is a success, and to who asked it is none.
code=$started
ended=$(of_unit ExecMainStatus)
case $(of_unit ExecMainCode)/$ended in
  1/0 | exited/0) ;;
  1/* | exited/*) code=$ended ;;
  # A signal, and no code.
  2/* | 3/* | killed/* | dumped/*) code=1 ;;
esac

# What the run said, and what systemd said of it.
journalctl --sync 2> /dev/null
run=$(of_unit InvocationID)
if [ -n "$run" ]; then
  journalctl --quiet --no-pager --output cat "_SYSTEMD_INVOCATION_ID=$run" + "INVOCATION_ID=$run"
else
  # An instance that has succeeded is forgotten.
  journalctl --quiet --no-pager --output cat --unit "$unit" --since "@$since"
fi

case $code in
  0) ;;
  15)
    echo "gradient-update: another run is at work, which this one cannot change (exit code 15)." >&2
    echo "Try again when it has ended; this shows it: systemctl status 'gradient-deploy*'" >&2
    ;;
  1[0-6]) echo "gradient-update: nothing was deployed; the last line above says why (exit code $code)." >&2 ;;
  *) echo "gradient-update: the run failed (exit code $code)." >&2 ;;
esac
# The failure was told: an instance that is left failed would be one more to look at.
if [ -n "$word" ]; then
  systemctl reset-failed "$unit" 2> /dev/null
fi
exit "$code"
