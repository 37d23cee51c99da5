# A page that says that there is no web interface yet, where one will be.
{ lib, runCommand }:
runCommand "gradient-frontend"
  {
    inherit (lib.importJSON ../../package.json) version;
    page = ./frontend.html;
    meta = {
      description = "Self-hosted Nix CI with a binary cache: a page in the place of the web interface";
      license = lib.licenses.asl20;
    };
  }
  ''
    mkdir -p $out/share/gradient-frontend
    cp $page $out/share/gradient-frontend/index.html
  ''
