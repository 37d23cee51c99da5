# Deploys now what Gradient built for this host, and prints what the run said.
#
#   gradient-update [--allow-older] [--force]
set -u

for word in "$@"; do
  case $word in
    --allow-older | --force) ;;
    *)
      echo "usage: gradient-update [--allow-older] [--force]" >&2
      @agent@ --help | grep --after-context=1 --extended-regexp '^ *--(allow-older|force)$' >&2
      exit 2
      ;;
  esac
done

state=$(systemctl show --property ActiveState --value gradient-deploy.service)
step=$(systemctl show --property SubState --value gradient-deploy.service)
if [ "$step" = auto-restart ]; then
  # It waits to try again; a start would only wait with it.
  systemctl stop gradient-deploy.service
elif [ "$state" = activating ] || [ "$state" = deactivating ]; then
  if [ $# -gt 0 ]; then
    echo "gradient-update: a run of gradient-deploy.service is at work, which $* cannot change." >&2
    echo "Try again when it has ended, or end it with: systemctl stop gradient-deploy.service" >&2
    exit 15
  fi
  echo "gradient-update: a run is at work already; waiting for its end" >&2
fi

file=/run/gradient-update.env
trap 'rm -f "$file"' EXIT
if [ $# -gt 0 ]; then
  echo "GRADIENT_UPDATE_ARGUMENTS=$*" > "$file" || exit 1
fi
# Runs that failed before do not count against who looks after the host.
systemctl reset-failed gradient-deploy.service 2> /dev/null
systemctl start gradient-deploy.service
code=$?
run=$(systemctl show --property InvocationID --value gradient-deploy.service)
# What the run said, and what systemd said of it.
journalctl --quiet --no-pager --output cat "_SYSTEMD_INVOCATION_ID=$run" + "INVOCATION_ID=$run"
exit $code
