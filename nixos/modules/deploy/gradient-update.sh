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
