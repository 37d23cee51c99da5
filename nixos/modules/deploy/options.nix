{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib) mkOption types;
  variables = import ../variables.nix { inherit lib; };
  settings = import ./settings.nix { inherit lib; };
in
{
  options.system.gradient-deploy = variables.options settings.top // {
    enable = lib.mkEnableOption "deployments that this host pulls from Gradient";

    package = mkOption {
      type = types.package;
      default = pkgs.gradient-deploy;
      defaultText = lib.literalExpression "pkgs.gradient-deploy";
      example = lib.literalExpression "inputs.gradient.packages.x86_64-linux.gradient-deploy";
      description = "The agent to run.";
    };

    server = mkOption {
      type = types.nullOr (types.strMatching "https?://[^/?#@[:space:]]+(/[^?#[:space:]]*)?");
      default = null;
      example = "https://gradient.example.com";
      description = "Address of the Gradient server. Required.";
    };

    project = mkOption {
      type = types.nullOr (types.strMatching "[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*");
      default = null;
      example = "myorg/myproject";
      description = "Organization and project to watch. Required.";
    };

    apiKeyFile = mkOption {
      type = types.nullOr types.externalPath;
      default = null;
      example = "/var/lib/gradient-deploy/api-key";
      description = ''
        File with an API key that may read the project, readable by root alone. Required. Without it nothing new is
        deployed, and what was under way is finished or undone.
      '';
    };

    deployFor = mkOption {
      type = types.nullOr (types.strMatching "[A-Za-z0-9_][A-Za-z0-9._@+-]{0,252}");
      # A machine may get its name elsewhere.
      default = if config.networking.hostName == "" then null else config.networking.hostName;
      defaultText = lib.literalExpression "config.networking.hostName";
      example = "mymachine";
      description = ''
        The name of this host among the project's `nixosConfigurations`. Null is what the machine is called when the
        agent runs.
      '';
    };

    trustedPublicKeys = mkOption {
      type = types.listOf (types.strMatching "[^:[:space:]]+:[A-Za-z0-9+/]{43}=");
      default = [ ];
      example = [ "gradient.example.com-main:2N0cV2Gk8pUBz3DXrdjD2PxP9hGZ5hmyTpvJbAfYV1Y=" ];
      description = ''
        Public keys of caches. With any, a path is taken only when one of them signed it, or a key that the host's own
        Nix trusts, whatever the server says; without, the server names the keys.
      '';
    };

    validateSettings = mkOption {
      type = types.bool;
      default = true;
      example = false;
      description = ''
        Whether the agent reads its settings while the system is built. Off, to build for another kind of machine.
      '';
    };

    dates = mkOption {
      type = types.either types.str (types.listOf types.str);
      default = "04:00";
      example = "*-*-* 02:00:00";
      description = "When the server is asked, as systemd.time(7) has it.";
    };

    randomizedDelaySec = mkOption {
      type = types.str;
      default = "0";
      example = "45min";
      description = "At most how long to wait beyond that, so that not all hosts ask at once.";
    };

    busyCommand = mkOption {
      type = types.nullOr types.str;
      default = null;
      example = "pgrep --exact restic";
      description = "Shell command that ends with 0 while this host is busy: nothing is switched or rebooted then.";
    };

    netrcFile = mkOption {
      type = types.nullOr types.path;
      default = "/etc/nix/netrc";
      example = null;
      description = ''
        This host's own netrc file: Nix gets its lines beside those for the private caches of the server. Null is none.
      '';
    };

    rollback = variables.options settings.rollback;

    health = variables.options settings.health // {
      commands = mkOption {
        type = types.listOf types.str;
        default = [ ];
        example = [ "curl --fail --silent http://localhost/health" ];
        description = "Shell commands that must all end with 0 after a switch, or the new build is unhealthy.";
      };

      ignoredUnits = mkOption {
        type = types.listOf (types.strMatching "[A-Za-z0-9:_.\\@*-]+");
        default = [ ];
        example = [ "backup-*.service" ];
        description = "Units whose failure does not count; `*` stands for anything.";
      };
    };

    reboot = variables.options settings.reboot;

    watch = variables.options settings.watch // {
      enable = lib.mkEnableOption "asking the server all the time, so that a new build is deployed within seconds";
    };
  };
}
