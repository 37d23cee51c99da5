# `system.gradient-deploy`: a host that takes what Gradient built for it, on its own.
{
  imports = [
    ../packages.nix
    ./options.nix
    ./assertions.nix
    ./service.nix
  ];
}
