{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib) mkOption types;
in
{
  options.system.gradient-deploy = {
    enable = lib.mkEnableOption "deployments that this host pulls from Gradient";

    package = mkOption {
      type = types.package;
      default = pkgs.gradient-deploy;
      defaultText = lib.literalExpression "pkgs.gradient-deploy";
      example = lib.literalExpression "inputs.gradient.packages.x86_64-linux.gradient-deploy";
      description = "The agent to run.";
    };

    server = mkOption {
      type = types.nullOr (types.strMatching "https?://[^/].*");
      default = null;
      example = "https://gradient.example.com";
      description = "Address of the Gradient server. Required.";
    };

    project = mkOption {
      type = types.nullOr (types.strMatching "[^/]+/[^/]+");
      default = null;
      example = "myorg/myproject";
      description = "Organization and project to watch. Required.";
    };

    apiKeyFile = mkOption {
      type = types.nullOr types.externalPath;
      default = null;
      example = "/var/lib/gradient-deploy/api-key";
      description = ''
        File with an API key that may read the project. Required. It reaches the agent as a systemd credential.
      '';
    };

    deployFor = mkOption {
      type = types.str;
      default = config.networking.hostName;
      defaultText = lib.literalExpression "config.networking.hostName";
      example = "mymachine";
      description = "The name of this host among the project's `nixosConfigurations`.";
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
  };
}
