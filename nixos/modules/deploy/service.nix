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
  # a way back that failed, which leaves the host half made, and a run that was killed.
  finalEnds = "1 2 3 21 22 30 31 32 40 41 42 44 45 46 47 48";
  # What has failed for good stays so, for whoever looks at failed units; all else is tried again, after five minutes at
  # first, and an hour in the end.
  patience = {
    Restart = "on-failure";
    RestartPreventExitStatus = finalEnds;
    RestartSec = 300;
    RestartSteps = 5;
    RestartMaxDelaySec = 3600;
  };

  of = table: variables.environmentOf table;
  environment =
    variables.escaped config.networking.proxy.envVars
    // variables.environment {
      DEPLOY_SERVER = cfg.server;
      DEPLOY_PROJECT = cfg.project;
      DEPLOY_HOST = cfg.deployFor;
      # Not a credential: systemd starts nothing while a credential's file is missing, and what an earlier run has left
      # is to be finished or undone all the same. The agent is root and says so where others can read the file.
      DEPLOY_API_KEY_FILE = cfg.apiKeyFile;
      DEPLOY_BUSY_COMMAND = cfg.busyCommand;
      DEPLOY_NETRC_FILE = toString cfg.netrcFile;
      DEPLOY_HEALTH_COMMANDS = builtins.toJSON cfg.health.commands;
      DEPLOY_HEALTH_IGNORED_UNITS = lib.concatStringsSep " " cfg.health.ignoredUnits;
      DEPLOY_TRUSTED_PUBLIC_KEYS = lib.concatStringsSep " " cfg.trustedPublicKeys;
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
    inherit environment;
    serviceConfig = {
      ExecStart = "${agent} ${command}";
      StateDirectory = baseNameOf folder;
      StateDirectoryMode = "0700";
      WorkingDirectory = folder;
      UMask = "0077";
      # The agent is told first, and ends what it has started.
      KillMode = "mixed";
      SuccessExitStatus = expectedEnds;
    };
  };

  exported = lib.concatStrings (
    lib.mapAttrsToList (name: value: ''
      export ${name}=${lib.escapeShellArg (lib.replaceStrings [ "%%" ] [ "%" ] value)}
    '') (removeAttrs environment [ "HOME" ])
  );

  # Root's own calls (`gradient-deploy status`, `gradient-deploy rollback`) take the settings of the unit.
  command = pkgs.writeShellScriptBin "gradient-deploy" (
    exported
    + ''
      exec ${agent} "$@"
    ''
  );

  # To the agent at work, a system whose own agent cannot read its settings looks healthy: and it is the last one.
  checked = pkgs.runCommand "gradient-deploy-settings" { } (
    exported
    + ''
      ${agent} read-settings
      touch $out
    ''
  );

  watched = pkgs.writeShellScript "gradient-deploy-watched" ''
    if [ "$SERVICE_RESULT" = success ]; then
      systemctl reset-failed gradient-deploy-watch.service
    fi
  '';

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

    system.checks = lib.optional cfg.validateSettings checked;

    systemd.services.gradient-deploy =
      let
        base = service "Takes what Gradient built for this host" "run";
      in
      base
      // {
        # It would count runs that went well, too, and end a timer of every few minutes.
        startLimitIntervalSec = 0;
        serviceConfig =
          base.serviceConfig
          // patience
          // {
            Type = "oneshot";
          };
      };

    # Of `gradient-update` with a word, which is the instance: nothing is left of it for other runs.
    systemd.services."gradient-deploy@" =
      let
        base = service "Takes what Gradient built for this host, as it was told to" "run %i";
      in
      base
      // {
        startLimitIntervalSec = 0;
        # systemd forgets an instance that succeeded, and how it ended: only 0 is a success.
        serviceConfig = removeAttrs base.serviceConfig [ "SuccessExitStatus" ] // {
          Type = "oneshot";
        };
      };

    # What a loss of power or a reboot has left is finished or undone, and the build that was booted is looked at.
    systemd.services.gradient-deploy-resume =
      let
        base = service "Finishes deployments of Gradient after a boot" "resume";
      in
      base
      // {
        # Without it nothing has been deployed.
        unitConfig = base.unitConfig // {
          ConditionPathExists = "${folder}/state.json";
        };
        serviceConfig =
          base.serviceConfig
          // patience
          // {
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
          # It ends after each update, so that the agent of the new system goes on: at once. What fails, such as a start
          # without a key, is tried ever more rarely.
          Restart = "always";
          RestartSec = 5;
          RestartSteps = 6;
          RestartMaxDelaySec = 300;
          # systemd counts restarts after a success, too.
          ExecStopPost = "${watched}";
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
