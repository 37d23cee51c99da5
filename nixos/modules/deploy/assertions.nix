{ config, lib, ... }:
let
  cfg = config.system.gradient-deploy;
  name = option: "system.gradient-deploy.${option}";
  ends = if cfg.reboot.window == null then [ ] else lib.splitString "-" cfg.reboot.window;
  isPlain = cfg.server != null && lib.hasPrefix "http://" cfg.server;
  # As the agent has it: a key that leaves the machine needs https.
  isHere =
    cfg.server != null
    && builtins.match "http://(localhost|127(\\.[0-9]+){3}|\\[::1])(:[0-9]+)?(/.*)?" cfg.server != null;
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
        }
      ++ [
        {
          assertion = cfg.health.settleSec <= cfg.health.graceSec;
          message = "${name "health.settleSec"} must not exceed ${name "health.graceSec"}.";
        }
        {
          assertion = ends == [ ] || lib.head ends != lib.elemAt ends 1;
          message = "${name "reboot.window"} begins when it ends.";
        }
        {
          assertion = lib.length cfg.health.commands <= 20;
          message = "${name "health.commands"} takes at most 20 commands.";
        }
      ];

    warnings =
      lib.optional (cfg.reboot.policy == "never" && cfg.reboot.window != null) ''
        ${name "reboot.window"} has no effect while ${name "reboot.policy"} is "never".
      ''
      ++ lib.optional (isPlain && !isHere) ''
        ${name "server"} is asked by http: the API key crosses the network unprotected.
      '';
  };
}
