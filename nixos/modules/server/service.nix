# The unit, its environment and its secrets.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  cfg = config.services.gradient;
  variables = import ../variables.nix { inherit lib; };
  settings = import ./settings.nix { inherit lib; };
  scheme = if cfg.useTls then "https" else "http";
  storage = if cfg.storage.sharedPath == null then "${cfg.baseDir}/storage" else cfg.storage.sharedPath;

  # Files that the server is told of by `GRADIENT_<name>_FILE`. Each is a credential: the unit's user needs no right to
  # the file itself.
  secrets = lib.filterAttrs (_: file: file != null) (
    {
      JWT_SECRET = cfg.jwtSecretFile;
      CRYPT_SECRET = cfg.cryptSecretFile;
      DATABASE_URL = cfg.databaseUrlFile;
      METRICS_TOKEN = cfg.metricsTokenFile;
    }
    // lib.optionalAttrs cfg.oidc.enable { OIDC_CLIENT_SECRET = cfg.oidc.clientSecretFile; }
    // lib.optionalAttrs cfg.email.enable { EMAIL_SMTP_PASSWORD = cfg.email.smtpPasswordFile; }
    // lib.optionalAttrs cfg.s3.enable { S3_SECRET_ACCESS_KEY = cfg.s3.secretAccessKeyFile; }
    // lib.optionalAttrs cfg.githubApp.enable {
      GITHUB_APP_PRIVATE_KEY = cfg.githubApp.privateKeyFile;
      GITHUB_APP_WEBHOOK_SECRET = cfg.githubApp.webhookSecretFile;
    }
  );
  credentialOf = name: lib.toLower (lib.replaceStrings [ "_" ] [ "-" ] name);

  environment =
    {
      IP = cfg.listenAddr;
      PORT = cfg.port;
      SERVE_URL = "${scheme}://${toString cfg.domain}";
      FRONTEND_URL = cfg.frontend.url;
      USE_TLS = cfg.useTls;
      BASE_PATH = cfg.baseDir;
      DATABASE_MAX_CONNECTIONS = cfg.databaseMaxConnections;
      DATABASE_MIN_CONNECTIONS = cfg.databaseMinConnections;
      DATABASE_WEB_MAX_CONNECTIONS = cfg.databaseWebMaxConnections;
      DATABASE_WEB_MIN_CONNECTIONS = cfg.databaseWebMinConnections;
      REPORT_ERRORS = cfg.reportErrors;
      DISCOVERABLE = cfg.discoverable;
      STATE_FILE = cfg.stateFile;
      SHARED_STORAGE_PATH = cfg.storage.sharedPath;
      STORAGE_MOVING_TO = cfg.storage.movingTo;
      # Only nginx asks for it, and only ours can read the folder.
      NGINX_STORAGE_LOCATION = if cfg.nginxReadsStorage then cfg.nginxStorageLocation else null;
      NGINX_LOG_PATH = if cfg.nginxReadsStorage then cfg.nginxLogPath else null;
    }
    // lib.optionalAttrs cfg.oidc.enable {
      OIDC_ENABLED = true;
      OIDC_REQUIRED = cfg.oidc.required;
      OIDC_CLIENT_ID = cfg.oidc.clientId;
      OIDC_DISCOVERY_URL = cfg.oidc.discoveryUrl;
      OIDC_SCOPES = lib.concatStringsSep " " cfg.oidc.scopes;
      OIDC_ICON_URL = cfg.oidc.iconUrl;
    }
    // lib.optionalAttrs cfg.email.enable {
      EMAIL_ENABLED = true;
      EMAIL_REQUIRE_VERIFICATION = cfg.email.requireVerification;
      EMAIL_ENABLE_TLS = cfg.email.enableTls;
      EMAIL_SMTP_HOST = cfg.email.smtpHost;
      EMAIL_SMTP_PORT = cfg.email.smtpPort;
      EMAIL_SMTP_USERNAME = cfg.email.smtpUsername;
      EMAIL_FROM_ADDRESS = cfg.email.fromAddress;
      EMAIL_FROM_NAME = cfg.email.fromName;
    }
    // lib.optionalAttrs cfg.s3.enable {
      S3_BUCKET = cfg.s3.bucket;
      S3_REGION = cfg.s3.region;
      S3_ENDPOINT = cfg.s3.endpoint;
      S3_ACCESS_KEY_ID = cfg.s3.accessKeyId;
      S3_PREFIX = cfg.s3.prefix;
      S3_VIRTUAL_HOSTED_STYLE = cfg.s3.virtualHostedStyle;
      S3_REDIRECT = cfg.s3.redirect;
    }
    // lib.optionalAttrs cfg.githubApp.enable { GITHUB_APP_ID = cfg.githubApp.appId; };

  # By the socket PostgreSQL knows the unit's user, and nobody needs a password.
  ownDatabase = lib.optionalAttrs (cfg.configurePostgres && cfg.databaseUrlFile == null) {
    DATABASE_URL = "postgresql://gradient@localhost/gradient?host=/run/postgresql";
  };
  usesOwnDatabase = ownDatabase != { };

  # What the server runs with, and the command that moves its storage beside it.
  process = {
    unitConfig.RequiresMountsFor = [
      cfg.baseDir
    ]
    ++ lib.optional (cfg.storage.sharedPath != null) storage;

    path = [
      pkgs.gitMinimal
      pkgs.openssh
    ];

    environment =
      # For git; the server's own requests go straight.
      variables.escaped config.networking.proxy.envVars
      // variables.environment (environment // ownDatabase)
      // variables.environmentOf settings.table cfg.settings
      // variables.environmentOf settings.logLevels cfg.settings.logLevel
      // lib.mapAttrs' (
        name: _: lib.nameValuePair "GRADIENT_${name}_FILE" "%d/${credentialOf name}"
      ) secrets
      // {
        # Not escaped: systemd puts the folder of the unit's credentials here.
        GRADIENT_CREDENTIALS_DIR = "%d";
        NODE_ENV = "production";
        # Those of `security.pki` beside its own.
        NODE_EXTRA_CA_CERTS = "/etc/ssl/certs/ca-certificates.crt";
      };
  };

  serviceConfig = import ../hardening.nix // {
    User = "gradient";
    Group = "gradient";
    WorkingDirectory = cfg.baseDir;
    ReadWritePaths = [
      cfg.baseDir
    ]
    ++ lib.optional (cfg.storage.sharedPath != null) storage
    # The server starts without it, too, and says so.
    ++ lib.optional cfg.nginxReadsStorage "-${cfg.nginxLogPath}";
    LoadCredential =
      lib.mapAttrsToList (name: file: "${credentialOf name}:${file}") secrets
      ++ lib.mapAttrsToList (name: file: "${name}:${file}") cfg.stateCredentials;
    # Sources on this machine are mostly below /home.
    ProtectHome = if cfg.settings.allowLocalSources then "read-only" else true;
    LimitNOFILE = 65535;
  };
in
{
  config = lib.mkIf cfg.enable {
    users.users.gradient = {
      isSystemUser = true;
      group = "gradient";
      description = "Gradient server";
      home = cfg.baseDir;
    };
    users.groups.gradient = { };

    # Who is of the group may pass through, to the files of the storage that the server opens to it; whatever else the
    # server makes is for its user alone (UMask).
    systemd.tmpfiles.rules = [
      "d ${cfg.baseDir} 0710 gradient gradient -"
    ]
    ++ lib.optional (cfg.storage.sharedPath == null) "d ${storage} 0710 gradient gradient -";

    systemd.services.gradient-server = process // {
      description = "Gradient server";
      wantedBy = [ "multi-user.target" ];
      wants = [ "network-online.target" ] ++ lib.optional usesOwnDatabase "postgresql.target";
      # Where there is no postgresql.target yet, the service itself is what to wait for.
      after = [
        "network-online.target"
        "systemd-tmpfiles-setup.service"
        "systemd-tmpfiles-resetup.service"
      ]
      ++ lib.optionals usesOwnDatabase [
        "postgresql.service"
        "postgresql.target"
      ];
      startLimitIntervalSec = 60;
      startLimitBurst = 5;

      serviceConfig = serviceConfig // import ../notify.nix // {
        ExecStart = "${cfg.package}/bin/gradient-server";
        Restart = "on-failure";
        RestartSec = 10;
        # The server gives itself 30 s.
        TimeoutStopSec = 45;
      };
    };

    # Started by hand: `systemctl start gradient-migrate-storage`.
    systemd.services.gradient-migrate-storage = lib.mkIf (cfg.storage.movingTo != null) (
      process
      // {
        description = "Moves what the Gradient server stores";
        after = [ "gradient-server.service" ];
        serviceConfig = serviceConfig // {
          Type = "oneshot";
          ExecStart = "${cfg.package}/bin/gradient-server migrate-storage";
        };
      }
    );
  };
}
