# `services.gradient.worker`: a worker, and what it needs of its machine.
{
  imports = [
    ../packages.nix
    ./options.nix
    ./assertions.nix
    ./service.nix
    ./nix.nix
    ./nginx.nix
    ./caddy.nix
    ./beside-server.nix
  ];
}
