# The agent in one file, without npm's packages: every host has it beside what it is for. Node starts that with a third
# of the time and two thirds of the memory that it needs for the TypeScript as it is.
{
  lib,
  stdenvNoCC,
  esbuild,
  makeWrapper,
  nodejs_24,
}:
stdenvNoCC.mkDerivation {
  pname = "gradient-deploy";
  inherit (lib.importJSON ../../package.json) version;

  src = import ./source.nix { inherit lib; } [
    ../../core/api
    ../../core/errors.ts
    ../../core/lib
    ../../core/nix
    ../../core/ports
    ../../deploy-agent
  ];

  nativeBuildInputs = [
    esbuild
    makeWrapper
  ];
  dontConfigure = true;
  buildPhase = ''
    runHook preBuild
    sh ${./bundle-agent.sh} deploy-agent/main.ts gradient-deploy.mjs
    runHook postBuild
  '';
  installPhase = ''
    runHook preInstall
    install -D --mode=444 gradient-deploy.mjs $out/lib/gradient/gradient-deploy.mjs
    makeWrapper ${lib.getExe nodejs_24} $out/bin/gradient-deploy \
      --add-flags "--max-semi-space-size=1 --max-old-space-size=256 $out/lib/gradient/gradient-deploy.mjs"
    runHook postInstall
  '';

  meta = {
    description = "Self-hosted Nix CI with a binary cache: the agent of a host that takes what was built for it";
    license = lib.licenses.asl20;
    mainProgram = "gradient-deploy";
    platforms = [
      "x86_64-linux"
      "aarch64-linux"
    ];
  };
}
