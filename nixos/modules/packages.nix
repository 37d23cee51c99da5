# Brings `pkgs.gradient-*` to whoever imports a module, so that none of them needs special arguments.
{ nixpkgs.overlays = [ (import ../overlay.nix) ]; }
