# The part of NixOS's options that our modules set, with the types that decide how their definitions are put together.
# Whatever a module sets beyond these is an error of the evaluation, as it would be in NixOS.
{ lib, ... }:
let
  inherit (lib) mkOption types;
  with' = type: default: mkOption { inherit type default; };
  set = type: with' (types.attrsOf type) { };
  sets = options: set (types.submodule { inherit options; });
  list = with' (types.listOf types.str) [ ];
  text = with' (types.nullOr types.str) null;
  words = with' types.lines "";
  flag = default: with' types.bool default;
  number = with' (types.nullOr types.int) null;
  any = with' types.anything { };

  unit = {
    description = text;
    enable = flag true;
    wantedBy = list;
    requiredBy = list;
    wants = list;
    requires = list;
    after = list;
    before = list;
    unitConfig = set types.anything;
  };
  service = unit // {
    path = with' (types.listOf types.anything) [ ];
    environment = set (types.nullOr types.str);
    serviceConfig = set types.anything;
    script = words;
    restartIfChanged = flag true;
    stopIfChanged = flag true;
    restartTriggers = list;
    startLimitIntervalSec = number;
    startLimitBurst = number;
  };
  location = {
    proxyPass = text;
    proxyWebsockets = flag false;
    recommendedProxySettings = flag false;
    root = text;
    alias = text;
    tryFiles = text;
    return = text;
    extraConfig = words;
  };
in
{
  options = {
    assertions = with' (types.listOf types.anything) [ ];
    warnings = list;
    nixpkgs.overlays = with' (types.listOf types.raw) [ ];
    environment.systemPackages = with' (types.listOf types.anything) [ ];
    system.checks = with' (types.listOf types.anything) [ ];
    networking.hostName = with' types.str "host";
    networking.proxy.envVars = set types.str;

    nix.package = with' types.anything null;
    nix.settings = {
      trusted-users = list;
      extra-experimental-features = list;
      use-cgroups = with' (types.nullOr types.bool) null;
    };

    security.acme.certs = any;

    systemd.services = sets service;
    systemd.timers = sets (unit // { timerConfig = set types.anything; });
    systemd.tmpfiles.rules = list;

    users.users = sets {
      isSystemUser = flag false;
      group = text;
      extraGroups = list;
      description = text;
      home = text;
    };
    users.groups = sets { members = list; };

    services.postgresql = {
      enable = flag false;
      ensureDatabases = list;
      ensureUsers = with' (types.listOf types.anything) [ ];
      settings = set types.anything;
    };

    services.nginx = {
      enable = flag false;
      user = with' types.str "nginx";
      commonHttpConfig = words;
      appendHttpConfig = words;
      upstreams = sets {
        servers = sets { };
        extraConfig = words;
      };
      virtualHosts = sets {
        http2 = flag true;
        enableACME = flag false;
        forceSSL = flag false;
        extraConfig = words;
        locations = sets location;
      };
    };

    services.caddy = {
      enable = flag false;
      virtualHosts = sets {
        useACMEHost = text;
        extraConfig = words;
      };
    };
  };
}
