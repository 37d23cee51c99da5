# `services.gradient`: the server, its database, and the proxy before it.
{
  imports = [
    ../packages.nix
    ./options.nix
    ./sign-in.nix
    ./storage.nix
    ./reverse-proxy.nix
    ./state
    ./assertions.nix
    ./service.nix
    ./postgresql.nix
    ./nginx.nix
    ./caddy.nix
  ];
}
