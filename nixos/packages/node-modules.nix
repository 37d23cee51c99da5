# The npm packages that server and worker run with. npm fetches them, and the hash in npm-hashes.json, which
# scripts/npm-hashes.ts writes, says what it must have fetched.
{
  lib,
  stdenvNoCC,
  nodejs_24,
  cacert,
}:
let
  inherit (stdenvNoCC.hostPlatform) system;
  hashes = lib.importJSON ./npm-hashes.json;
  cpu =
    {
      x86_64-linux = "x64";
      aarch64-linux = "arm64";
    }
    .${system} or (throw "Gradient is not packaged for ${system}");
in
stdenvNoCC.mkDerivation {
  pname = "gradient-node-modules";
  inherit (lib.importJSON ../../package.json) version;

  src = lib.fileset.toSource {
    root = ../..;
    fileset = lib.fileset.unions [
      ../../package.json
      ../../package-lock.json
      ../../scripts/production-manifest.mjs
      ./install-node-modules.sh
    ];
  };

  nativeBuildInputs = [ nodejs_24 ];
  # Node's own certificates do not hold those that the machine's operator has added.
  env.NODE_EXTRA_CA_CERTS = "${cacert}/etc/ssl/certs/ca-bundle.crt";
  impureEnvVars = lib.fetchers.proxyImpureEnvVars ++ [ "npm_config_registry" ];

  dontConfigure = true;
  buildPhase = ''
    runHook preBuild
    export HOME=$TMPDIR npm_config_cache=$TMPDIR/npm
    sh nixos/packages/install-node-modules.sh . ${cpu}
    runHook postBuild
  '';
  # Node looks for packages of packages in folders of this name.
  installPhase = ''
    runHook preInstall
    mkdir $out
    mv node_modules $out/
    runHook postInstall
  '';
  # It would put store paths into scripts, which nothing whose hash is fixed may hold.
  dontFixup = true;

  outputHashMode = "recursive";
  outputHash =
    hashes.${system}
      or (throw "nixos/packages/npm-hashes.json has no hash for ${system}: run scripts/npm-hashes.ts");
}
