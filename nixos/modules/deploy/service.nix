{
  config,
  lib,
  pkgs,
  ...
}:
let
  cfg = config.system.gradient-deploy;
  variables = import ../variables.nix { inherit lib; };
  name = option: "system.gradient-deploy.${option}";
  folder = "/var/lib/gradient-deploy";
in
{
  config = lib.mkIf cfg.enable {
    assertions =
      lib.mapAttrsToList
        (option: value: {
          assertion = value != null;
          message = "${name option} is required.";
        })
        {
          inherit (cfg) server project apiKeyFile;
        };

    # The key is put there before anything has run.
    systemd.tmpfiles.rules = [ "d ${folder} 0700 root root -" ];

    environment.systemPackages = [
      (pkgs.writeShellScriptBin "gradient-update" "exec systemctl start gradient-deploy.service")
    ];

    systemd.services.gradient-deploy = {
      description = "Takes what Gradient built for this host";
      wants = [ "network-online.target" ];
      after = [ "network-online.target" ];
      # It is this unit that switches to a configuration which may hold another version of it.
      restartIfChanged = false;
      unitConfig.X-StopOnRemoval = false;
      path = [ config.nix.package ];

      environment =
        config.networking.proxy.envVars
        // variables.environment {
          DEPLOY_SERVER = cfg.server;
          DEPLOY_PROJECT = cfg.project;
          DEPLOY_HOST = cfg.deployFor;
        }
        // {
          GRADIENT_DEPLOY_API_KEY_FILE = "%d/api-key";
          # Nix keeps its caches there.
          HOME = folder;
        };

      serviceConfig = {
        Type = "oneshot";
        ExecStart = "${cfg.package}/bin/gradient-deploy";
        LoadCredential = [ "api-key:${toString cfg.apiKeyFile}" ];
        WorkingDirectory = folder;
        UMask = "0077";
      };
    };

    # Not by `startAt`, which a definition of OnCalendar could only add to.
    systemd.timers.gradient-deploy = {
      description = "When this host asks Gradient for its configuration";
      wantedBy = [ "timers.target" ];
      timerConfig = {
        OnCalendar = lib.mkDefault cfg.dates;
        RandomizedDelaySec = lib.mkDefault cfg.randomizedDelaySec;
        # What was missed while the host was off is made up for.
        Persistent = lib.mkDefault true;
      };
    };
  };
}
