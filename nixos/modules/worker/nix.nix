# What the worker needs of the machine's Nix.
{ config, lib, ... }:
let
  cfg = config.services.gradient.worker;
in
{
  config = lib.mkIf (cfg.enable && !cfg.capabilities.federate) {
    nix.settings = {
      # It imports what the server verified and builds by value: both take a trusted user. A definition replaces Nix's
      # default, so that root is named as well.
      trusted-users = [
        "root"
        "gradient-worker"
      ];
      # Beside what the operator has: theirs may be one text, which a list cannot be put together with.
      extra-experimental-features = [
        "nix-command"
        "flakes"
        "ca-derivations"
      ]
      ++ lib.optional cfg.settings.buildMetrics "cgroups";
      use-cgroups = lib.mkIf cfg.settings.buildMetrics true;
    };

    # It makes a group below its own for each build.
    systemd.services.nix-daemon = lib.mkIf cfg.settings.buildMetrics {
      serviceConfig.Delegate = lib.mkDefault true;
    };
  };
}
