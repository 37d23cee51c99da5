{ config, lib, ... }:
let
  cfg = config.system.gradient-deploy;
  name = option: "system.gradient-deploy.${option}";
  ends = if cfg.reboot.window == null then [ ] else lib.splitString "-" cfg.reboot.window;
  isPlain = cfg.server != null && lib.hasPrefix "http://" cfg.server;
  # As the agent has it: what leaves the machine needs https.
  isHere =
    cfg.server != null
    && builtins.match "http://(localhost|127(\\.[0-9]+){3}|\\[::1])(:[0-9]*)?(/.*)?" cfg.server != null;
  # Null where the address has none.
  port =
    let
      found = builtins.match "https?://(\\[[^]]*]|[^]:/]*):([^/]*)(/.*)?" (toString cfg.server);
    in
    if found == null then null else builtins.elemAt found 1;
  isPort =
    text:
    builtins.match
      "0*([0-9]{0,4}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])"
      text != null;
  isBlank = text: builtins.match "[[:space:]]*" text != null;
  dates = if builtins.isList cfg.dates then cfg.dates else [ cfg.dates ];
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
        {
          assertion = !lib.any isBlank cfg.health.commands;
          message = "${name "health.commands"} holds an empty command.";
        }
        {
          assertion = lib.length cfg.health.ignoredUnits <= 100;
          message = "${name "health.ignoredUnits"} takes at most 100 names; * in one stands for anything.";
        }
        {
          assertion = port == null || isPort port;
          message = "${name "server"} has the port ${toString port}, which is none: ports end at 65535.";
        }
        {
          assertion = !isPlain || isHere || cfg.allowHttp;
          message =
            "${name "server"} is asked by http: the keys of the caches come in its answer, so whoever is on the way "
            + "would be root on this host. Use https, or accept that with ${name "allowHttp"} = true.";
        }
        {
          assertion = !lib.all isBlank dates;
          message =
            "${name "dates"} names no time. For a host without the timer (watch.enable, gradient-update): "
            + "systemd.timers.gradient-deploy.enable = false.";
        }
      ];

    warnings =
      lib.optional (cfg.reboot.policy == "never" && cfg.reboot.window != null) ''
        ${name "reboot.window"} has no effect while ${name "reboot.policy"} is "never".
      '';
  };
}
