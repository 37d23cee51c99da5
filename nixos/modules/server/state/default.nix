# `services.gradient.state`: what the server is to have, as docs/declared-state.md describes it. It is written as JSON,
# and the server itself checks it while the system is built.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib) mkOption types;
  cfg = config.services.gradient;
  fields = import ./fields.nix { inherit lib; };
  isEmpty = lib.all (part: part == { }) (lib.attrValues cfg.state);

  # An upstream of one kind knows no fields of another.
  withoutNulls = lib.filterAttrs (_: value: value != null);
  json = builtins.toJSON (
    cfg.state
    // {
      caches = lib.mapAttrs (
        _: cache:
        cache
        // {
          upstreams = if cache.upstreams == null then null else map upstreamOf cache.upstreams;
        }
      ) cfg.state.caches;
    }
  );
  upstreamOf =
    upstream:
    withoutNulls (
      if upstream.type == "gradient_proto" then upstream else builtins.removeAttrs upstream [ "has_api_key_file" ]
    );

  written = pkgs.writeText "gradient-state.json" json;
  checked = pkgs.runCommand "gradient-state.json" { } ''
    GRADIENT_ALLOW_LOCAL_SOURCES=${lib.boolToString cfg.settings.allowLocalSources} \
      ${cfg.package}/bin/gradient-server validate-state ${written}
    cp ${written} $out
  '';
in
{
  options.services.gradient = {
    state =
      import ./accounts.nix fields // import ./projects.nix fields // import ./caches.nix fields;

    validateState = mkOption {
      type = types.bool;
      default = true;
      example = false;
      description = "Whether the server checks the state while the system is built.";
    };

    stateFile = mkOption {
      type = types.nullOr types.path;
      readOnly = true;
      default = if isEmpty then null else if cfg.validateState then checked else written;
      defaultText = lib.literalMD "the state as JSON";
      description = "The file that the server reads at its start; null where nothing is declared.";
    };

    stateCredentials = mkOption {
      type = types.attrsOf types.externalPath;
      readOnly = true;
      internal = true;
      default = import ./credentials.nix { inherit lib; } cfg.state;
      description = "Secrets of the state by the names under which the server looks for them.";
    };
  };
}
