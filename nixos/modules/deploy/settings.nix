# Options of `system.gradient-deploy` that are one variable of the agent each, with its own ranges and defaults.
{ lib }:
let
  inherit (lib) types;
  inherit (import ../variables.nix { inherit lib; }) flag number;
  day = 86400;
  optionalFile = variable: default: example: description: {
    inherit
      variable
      default
      example
      description
      ;
    type = types.nullOr types.path;
  };
in
{
  top = {
    mode = {
      variable = "DEPLOY_MODE";
      type = types.enum [
        "switch"
        "boot"
        "test"
        "dry-activate"
      ];
      default = "switch";
      example = "boot";
      description = ''
        What is done with a new build: `switch` activates it and makes it the default at boot, `boot` does the latter
        alone, `test` the former alone, and `dry-activate` shows what a switch would do.
      '';
    };
    switchTimeoutSec = number "DEPLOY_SWITCH_TIMEOUT_SECS" 1800 1 day ''
      Seconds that a switch may take, before it is ended and counts as failed.
    '';
    downloadTimeoutSec = number "DEPLOY_DOWNLOAD_TIMEOUT_SECS" 21600 1 (365 * day) ''
      Seconds that one download may take. What has arrived is kept for the next run.
    '';
    serverTimeoutSec = number "DEPLOY_SERVER_TIMEOUT_SECS" 30 1 600 "Seconds that one request to the server may take.";
    useHostSubstituters = flag "DEPLOY_HOST_SUBSTITUTERS" true ''
      Whether the substituters of this host's Nix are used beside the caches that the server names.
    '';
    diskMarginMb = number "DEPLOY_DISK_MARGIN_MB" 512 0 100000000 ''
      Megabytes that must stay free on the store's disk after a download.
    '';
    waitForInhibitors = flag "DEPLOY_WAIT_FOR_INHIBITORS" false ''
      Whether nothing is switched while somebody holds a blocking inhibitor against shutdown (`systemd-inhibit`).
    '';
    waitSec = number "DEPLOY_WAIT_SECS" 3600 0 604800 ''
      Seconds that a run waits for a busy host, before it leaves the switch to the next run.
    '';
    report = flag "DEPLOY_REPORT" true ''
      Whether the server is told every step. Without the permission to report, the agent says so once and goes on.
    '';
    allowHttp = flag "DEPLOY_ALLOW_HTTP" false ''
      Whether `server` may be an http address of another machine. The keys of the caches come in its answer: whoever is
      on the way can then put a system of their own in the place of yours, and is root here. Also the API key crosses
      the network unprotected.
    '';
    caFile = optionalFile "DEPLOY_CA_FILE" null "/etc/ssl/certs/our-ca.pem" ''
      Certificates to trust beside the usual ones.
    '';
  };

  rollback.enable = flag "DEPLOY_ROLLBACK" true ''
    Whether the host goes back by itself to the generation before, when a new one fails or is unhealthy.
  '';

  health = {
    units = flag "DEPLOY_HEALTH_UNITS" true ''
      Whether a unit that failed after the switch, and had not before, makes the new build unhealthy.
    '';
    server = flag "DEPLOY_HEALTH_SERVER" true ''
      Whether a host that does not reach the server any more after the switch is unhealthy.
    '';
    commandTimeoutSec = number "DEPLOY_HEALTH_COMMAND_TIMEOUT_SECS" 60 1 day ''
      Seconds that one of `commands` may take.
    '';
    settleSec = number "DEPLOY_HEALTH_SETTLE_SECS" 5 0 day ''
      Seconds that a new build is watched at least, before it counts as healthy.
    '';
    graceSec = number "DEPLOY_HEALTH_GRACE_SECS" 60 0 day ''
      Seconds that an unhealthy host has to become healthy, before it is rolled back.
    '';
  };

  watch.waitSec = number "DEPLOY_WATCH_WAIT_SECS" 55 1 60 ''
    Seconds that one question waits at the server for news.
  '';

  reboot = {
    policy = {
      variable = "DEPLOY_REBOOT";
      type = types.enum [
        "never"
        "when-needed"
      ];
      default = "never";
      example = "when-needed";
      description = ''
        `when-needed`: the host is rebooted when the new build has another kernel, initrd or kernel modules, or `mode`
        is `boot`.
      '';
    };
    window = {
      variable = "DEPLOY_REBOOT_WINDOW";
      type = types.nullOr (
        types.strMatching "([01][0-9]|2[0-3]):[0-5][0-9]-([01][0-9]|2[0-3]):[0-5][0-9]"
      );
      default = null;
      example = "02:00-05:00";
      description = "Local time in which a reboot is allowed; null is always.";
    };
  };
}
