# A program of this repository: its TypeScript as it is, run by Node.
{
  lib,
  stdenvNoCC,
  makeWrapper,
  nodejs_24,
  gradient-node-modules,
}:
{
  name,
  description,
  # Folders and files of the repository that it runs from.
  parts,
  main,
  # What it calls, unless its PATH has another one.
  tools ? [ ],
  # As in scripts/node-options.ts.
  nodeOptions ? "--max-semi-space-size=4 --max-old-space-size=1000 --v8-pool-size=1 --no-allocation-site-pretenuring",
}:
stdenvNoCC.mkDerivation {
  pname = name;
  inherit (lib.importJSON ../../package.json) version;

  src = import ./source.nix { inherit lib; } parts;

  nativeBuildInputs = [ makeWrapper ];
  dontConfigure = true;
  dontBuild = true;
  installPhase = ''
    runHook preInstall
    mkdir -p $out/lib/gradient
    cp -r . $out/lib/gradient/
    ln -s ${gradient-node-modules}/node_modules $out/lib/gradient/node_modules
    makeWrapper ${lib.getExe nodejs_24} $out/bin/${name} \
      --add-flags "${nodeOptions} $out/lib/gradient/${main}" \
      --suffix PATH : "${lib.makeBinPath tools}"
    runHook postInstall
  '';

  meta = {
    inherit description;
    license = lib.licenses.asl20;
    mainProgram = name;
    platforms = [
      "x86_64-linux"
      "aarch64-linux"
    ];
  };
}
