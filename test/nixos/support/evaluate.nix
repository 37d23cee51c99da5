# Evaluates systems of our modules, for test/nixos/support/evaluate.ts: what each of `systems` comes to, or that it is
# refused. A system is a module.
{
  lib,
  flake,
  systems,
}:
let
  derivation = name: {
    type = "derivation";
    inherit name;
    outPath = "/nix/store/00000000000000000000000000000000-${name}";
  };
  # Packages of nixpkgs by their names, and those of the overlays by the names of their files.
  nixpkgs = {
    coreutils = derivation "coreutils";
    gitMinimal = derivation "git";
    openssh = derivation "openssh";
    callPackage = file: _: derivation "gradient-${builtins.replaceStrings [ ".nix" ] [ "" ] (baseNameOf file)}";
    writeText = name: text: derivation name // { inherit text; };
    writeShellScript = name: text: derivation name // { inherit text; };
    writeShellScriptBin = name: text: derivation name // { inherit text; };
    runCommand = name: _: text: derivation name // { inherit text; };
  };
  outputs = flake.outputs {
    self = outputs;
    nixpkgs = { inherit lib; };
  };

  pkgsOf = config: builtins.foldl' (all: overlay: all // overlay (pkgsOf config) all) nixpkgs config.nixpkgs.overlays;

  resultOf =
    system:
    let
      result = lib.evalModules {
        specialArgs = {
          inputs.gradient = outputs;
          pkgs = pkgsOf result.config;
        };
        modules = [
          ./nixos-options.nix
          { nix.package = lib.mkDefault (derivation "nix" // { version = "2.31.2"; }); }
          system
        ];
      };
      inherit (result) config;
      gradient = config.services.gradient or { };
      deployOptions = result.options.system.gradient-deploy or { };
      failed = map (one: one.message) (lib.filter (one: !one.assertion) config.assertions);
    in
    # As NixOS does: what fails an assertion is not looked at any further.
    if failed != [ ] then
      { inherit failed; }
    else
    {
      inherit failed;
      inherit (config) warnings;
      inherit (config.systemd) services timers;
      commands = builtins.listToAttrs (
        map (command: {
          inherit (command) name;
          value = command.text or "";
        }) config.environment.systemPackages
      );
      checks = map (check: check.text) config.system.checks;
      tmpfiles = config.systemd.tmpfiles.rules;
      inherit (config.users) users groups;
      inherit (config.services) nginx caddy postgresql;
      nix = config.nix.settings;
      stateFile = gradient.stateFile.text or null;
      stateCredentials = gradient.stateCredentials or null;
      state = builtins.toJSON (gradient.state or null);
      defaults = builtins.listToAttrs (
        defaults [ ] (removeAttrs (result.options.services.gradient or { }) [ "reversePorxy" ])
      );
      deployDefaults = builtins.listToAttrs (defaults [ ] deployOptions);
      undocumented =
        undocumented [ ] (result.options.services.gradient or { }) ++ undocumented [ ] deployOptions;
    };

  # Every option's default, by its place.
  defaults =
    place: tree:
    lib.concatLists (
      lib.mapAttrsToList (
        name: option:
        let
          here = place ++ [ name ];
        in
        if option ? _type then
          lib.optional (option ? default && !(option ? readOnly)) {
            name = lib.concatStringsSep "." here;
            value = option.default;
          }
        else
          defaults here option
      ) tree
    );

  # Options that lack what an operator needs to know of them.
  undocumented =
    place: tree:
    lib.concatLists (
      lib.mapAttrsToList (
        name: option:
        let
          here = place ++ [ name ];
          isOurs = option ? readOnly || option ? internal;
          isComplete = option ? type && option ? description && (option ? example || isOurs);
        in
        if name == "reversePorxy" then
          [ ]
        else if option ? _type then
          lib.optional (!isComplete) (lib.concatStringsSep "." here)
        else
          undocumented here option
      ) tree
    );
in
lib.mapAttrs (
  _: system:
  let
    tried = builtins.tryEval (
      let
        result = resultOf system;
      in
      builtins.deepSeq result result
    );
  in
  if tried.success then tried.value else null
) systems
