# The unit, its environment and its secrets.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  cfg = config.services.gradient.worker;
  variables = import ../variables.nix { inherit lib; };
  settings = import ./settings.nix { inherit lib; };
  pinsBuilds = cfg.settings.gcrootsDir != "";

  secrets = lib.filterAttrs (_: file: file != null) {
    peers = if cfg.isBesideServer then cfg.tokenFolder + "/peers" else cfg.peersFile;
    downstreams = if cfg.capabilities.federate then cfg.downstreamsFile else null;
    signing-key = if cfg.capabilities.sign then cfg.signingKeyFile else null;
  };
  variableOf = name: "GRADIENT_WORKER_${lib.toUpper (lib.replaceStrings [ "-" ] [ "_" ] name)}_FILE";

  # Several organizations build through private nix-daemons below this unit. Their sandboxes are user namespaces that
  # mount a /proc of their own, which the kernel allows only where nothing hides a part of ours, and set a host name.
  # Whatever a filter of system calls, architectures or address families forbids here is forbidden to each build, too,
  # and would make it another build than it is elsewhere; so would devices that are missing (/dev/kvm).
  given = [
    "LockPersonality"
    "PrivateDevices"
    "ProtectClock"
    "ProtectHostname"
    "ProtectKernelLogs"
    "ProtectKernelTunables"
    "ProtectProc"
    "RestrictAddressFamilies"
    "RestrictNamespaces"
    "RestrictRealtime"
    "SystemCallArchitectures"
    "SystemCallErrorNumber"
    "SystemCallFilter"
  ];
  full = import ../hardening.nix;
  # A relay builds nothing.
  hardening = if cfg.capabilities.federate then full else builtins.removeAttrs full given;
in
{
  config = lib.mkIf cfg.enable {
    users.users.gradient-worker = {
      isSystemUser = true;
      group = "gradient-worker";
      description = "Gradient worker";
      home = cfg.baseDir;
    };
    users.groups.gradient-worker = { };

    # The id is for whoever registers the worker; all else in the folder is for its user alone (UMask).
    systemd.tmpfiles.rules = [
      "d ${cfg.baseDir} 0711 gradient-worker gradient-worker -"
    ]
    ++ lib.optional pinsBuilds "d ${cfg.settings.gcrootsDir} 0755 gradient-worker gradient-worker -";

    systemd.services.gradient-worker = {
      description = "Gradient worker";
      wantedBy = [ "multi-user.target" ];
      wants = [ "network-online.target" ];
      after = [
        "network-online.target"
        "nix-daemon.socket"
        "systemd-tmpfiles-setup.service"
        "systemd-tmpfiles-resetup.service"
      ];
      path = [
        cfg.nixPackage
        pkgs.gitMinimal
        pkgs.openssh
      ];

      environment =
        # For git and Nix; the way to the server goes straight.
        variables.escaped config.networking.proxy.envVars
        // variables.environment {
          WORKER_SERVER_URL = cfg.serverUrl;
          WORKER_ID = cfg.workerId;
          WORKER_DATA_DIR = cfg.baseDir;
          WORKER_DISCOVERABLE = cfg.discoverable;
          WORKER_LISTEN_ADDR = cfg.listenAddr;
          WORKER_PORT = cfg.port;
          WORKER_CAPABILITY_FETCH = cfg.capabilities.fetch;
          WORKER_CAPABILITY_EVAL = cfg.capabilities.eval;
          WORKER_CAPABILITY_BUILD = cfg.capabilities.build;
          WORKER_CAPABILITY_SIGN = cfg.capabilities.sign;
          WORKER_CAPABILITY_FEDERATE = cfg.capabilities.federate;
          BINPATH_NIX = "${cfg.nixPackage}/bin/nix";
          BINPATH_SSH = "${pkgs.openssh}/bin/ssh";
        }
        // variables.environmentOf settings.table cfg.settings
        // variables.environmentOf settings.logLevels cfg.settings.logLevel
        // lib.mapAttrs' (name: _: lib.nameValuePair (variableOf name) "%d/${name}") secrets
        // {
          NIX_REMOTE = "daemon";
          NODE_ENV = "production";
          # Those of `security.pki` beside its own.
          NODE_EXTRA_CA_CERTS = "/etc/ssl/certs/ca-certificates.crt";
        };

      serviceConfig = hardening // import ../notify.nix // {
        ExecStart = "${cfg.package}/bin/gradient-worker";
        User = "gradient-worker";
        Group = "gradient-worker";
        WorkingDirectory = cfg.baseDir;
        ReadWritePaths = [ cfg.baseDir ] ++ lib.optional pinsBuilds cfg.settings.gcrootsDir;
        LoadCredential = lib.mapAttrsToList (name: file: "${name}:${file}") secrets;
        # Sources on this machine are mostly below /home.
        ProtectHome = if cfg.settings.allowLocalSources then "read-only" else true;
        Restart = "always";
        RestartSec = 10;
        # The worker is told first and finishes what it builds; what takes longer is built anew elsewhere.
        KillMode = "mixed";
        TimeoutStopSec = "5min";
        LimitNOFILE = 65535;
      };
    };
  };
}
