{
  config,
  lib,
  pkgs,
  ...
}:
let
  cfg = config.system.gradient-deploy;
  variables = import ../variables.nix { inherit lib; };
  settings = import ./settings.nix { inherit lib; };
  folder = "/var/lib/gradient-deploy";
  agent = "${cfg.package}/bin/gradient-deploy";

  # How runs end that neither host nor agent is to blame for.
  expectedEnds = "10 11 12 13 14 15 16";
  # What is no better in a while. Left are: a full disk below the state, no server, an answer that is none, no download,
  # and a run that was killed.
  finalEnds = "1 2 3 21 22 30 31 32 40 41 42 43 44 45 46 47 48";

  of = table: variables.environmentOf table;
  environment =
    variables.escaped config.networking.proxy.envVars
    // variables.environment {
      DEPLOY_SERVER = cfg.server;
      DEPLOY_PROJECT = cfg.project;
      DEPLOY_HOST = cfg.deployFor;
      DEPLOY_BUSY_COMMAND = cfg.busyCommand;
      DEPLOY_NETRC_FILE = toString cfg.netrcFile;
      DEPLOY_HEALTH_COMMANDS = builtins.toJSON cfg.health.commands;
      DEPLOY_HEALTH_IGNORED_UNITS = lib.concatStringsSep " " cfg.health.ignoredUnits;
    }
    // of settings.top cfg
    // of settings.rollback cfg.rollback
    // of settings.health cfg.health
    // of settings.watch cfg.watch
    // of settings.reboot cfg.reboot
    // {
      # Nix keeps its caches there.
      HOME = folder;
      NODE_ENV = "production";
      # With the certificates of `security.pki`.
      NIX_SSL_CERT_FILE = "/etc/ssl/certs/ca-certificates.crt";
    };

  service = description: command: {
    inherit description;
    wants = [ "network-online.target" ];
    after = [ "network-online.target" ];
    # It is this unit that switches to a configuration which may hold another version of it.
    restartIfChanged = false;
    unitConfig.X-StopOnRemoval = false;
    # Commands of the options find what people find who are signed in.
    path = [
      config.nix.package
      "/run/current-system/sw"
    ];
    environment = environment // {
      GRADIENT_DEPLOY_API_KEY_FILE = "%d/api-key";
    };
    serviceConfig = {
      ExecStart = "${agent} ${command}";
      LoadCredential = [ "api-key:${toString cfg.apiKeyFile}" ];
      StateDirectory = baseNameOf folder;
      StateDirectoryMode = "0700";
      WorkingDirectory = folder;
      UMask = "0077";
      # The agent is told first, and ends what it has started.
      KillMode = "mixed";
      SuccessExitStatus = expectedEnds;
    };
  };

  # Root's own calls (`gradient-deploy status`, `gradient-deploy rollback`) take the settings of the unit.
  command = pkgs.writeShellScriptBin "gradient-deploy" (
    lib.concatStrings (
      lib.mapAttrsToList (name: value: ''
        export ${name}=${lib.escapeShellArg (lib.replaceStrings [ "%%" ] [ "%" ] value)}
      '') (removeAttrs environment [ "HOME" ])
    )
    + ''
      export GRADIENT_DEPLOY_API_KEY_FILE=${lib.escapeShellArg (toString cfg.apiKeyFile)}
      exec ${agent} "$@"
    ''
  );

  update = pkgs.writeShellScriptBin "gradient-update" (
    lib.replaceStrings [ "@agent@" ] [ agent ] (builtins.readFile ./gradient-update.sh)
  );
in
{
  config = lib.mkIf cfg.enable {
    # The key is put there before anything has run.
    systemd.tmpfiles.rules = [ "d ${folder} 0700 root root -" ];

    environment.systemPackages = [
      command
      update
    ];

    systemd.services.gradient-deploy =
      let
        base = service "Takes what Gradient built for this host" "run $GRADIENT_UPDATE_ARGUMENTS";
      in
      base
      // {
        environment = base.environment // {
          GRADIENT_UPDATE_ARGUMENTS = "";
        };
        # It would count runs that went well, too, and end a timer of every few minutes.
        startLimitIntervalSec = 0;
        serviceConfig = base.serviceConfig // {
          Type = "oneshot";
          # Of `gradient-update`, for one run.
          EnvironmentFile = "-/run/gradient-update.env";
          # What has failed for good stays so, for whoever looks at failed units.
          Restart = "on-failure";
          RestartPreventExitStatus = finalEnds;
          RestartSec = 300;
          # Five minutes at first, and an hour in the end.
          RestartSteps = 5;
          RestartMaxDelaySec = 3600;
          # Of a `gradient-update` that was killed.
          ExecStopPost = "${pkgs.coreutils}/bin/rm -f /run/gradient-update.env";
        };
      };

    # What a loss of power or a reboot has left is finished or undone, and the build that was booted is looked at.
    systemd.services.gradient-deploy-resume =
      let
        base = service "Finishes deployments of Gradient after a boot" "resume";
      in
      base
      // {
        # Without a key nothing has been deployed.
        unitConfig = base.unitConfig // {
          ConditionPathExists = cfg.apiKeyFile;
        };
        serviceConfig = base.serviceConfig // {
          Type = "oneshot";
        };
      };

    systemd.services.gradient-deploy-watch = lib.mkIf cfg.watch.enable (
      let
        base = service "Deploys what Gradient builds for this host, as soon as it is there" "watch";
      in
      base
      // {
        wantedBy = [ "multi-user.target" ];
        startLimitIntervalSec = 0;
        serviceConfig = base.serviceConfig // {
          Type = "exec";
          # It ends after each update, so that the agent of the new system goes on.
          Restart = "always";
          RestartSec = 5;
        };
      }
    );

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

    # Not part of the boot, which would wait for it, nor of a switch, which would start it.
    systemd.timers.gradient-deploy-resume = {
      description = "Looks at deployments of Gradient after a boot";
      wantedBy = [ "timers.target" ];
      timerConfig.OnBootSec = lib.mkDefault "1min";
    };
  };
}
