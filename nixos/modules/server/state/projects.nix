# What is evaluated, when, and what follows.
fields: with fields;
let
  freely = types.attrsOf types.anything;
  trigger = {
    type = required (types.enum [
      "polling"
      "time"
      "reporter_push"
      "reporter_pull_request"
    ]) "polling" "When it fires.";
    integration = text "forge" "The inbound integration whose forge fires it.";
    config = field freely { } { interval_secs = 300; } "What belongs to its type; docs/declared-state.md lists it.";
    active = flag true "Whether it fires at all.";
  };
  action = {
    name = required types.str "Tell the room" "Its name.";
    type = required (types.enum [
      "send_mail"
      "send_web_request"
      "forge_status_report"
      "open_pr"
    ]) "send_mail" "What it does.";
    config = field freely { } { recipients = [ "ops@example.com" ]; } "What belongs to its type.";
    events = names [ "evaluation.failed" ] "What it is done about.";
    active = flag true "Whether it is done at all.";
  };
  inputOverride = {
    url = text "github:NixOS/nixpkgs/nixos-unstable" "Takes the place of the input's address.";
    keep_url = flag false "Takes the newest of what the input's address names.";
  };
in
{
  projects = things {
    inherit (head) name display_name;
    description = field types.str "" "The web shop" "What people read about it.";
    organization = required types.str "acme" "Where it is.";
    repository = required types.str "https://forge.example.com/acme/web.git" "What is fetched.";
    wildcard = text "packages.x86_64-linux.*" "What is evaluated; null is this.";
    evaluation_wildcard = text "packages.x86_64-linux.*" "Another name of `wildcard`.";
    active = flag true "Whether anything is evaluated.";
    sign_cache = flag true "Whether what was built is signed.";
    keep_evaluations = number types.ints.positive 5 "Evaluations to keep, as far as `settings.keepEvaluations` goes.";
    concurrency = field (types.enum [
      "hard_abort"
      "soft_abort"
      "skip"
      "all"
    ]) "soft_abort" "skip" "What happens to an evaluation that goes on when another begins.";
    deploy_branch = text "main" "The branch whose builds hosts take; null is that of the triggers, or the default one.";
    deploy_hold = flag true "Whether a build that failed on one host is held back for the others.";
    deploy_wave_percent = field (types.ints.between 1 100) 100 10 "Percent of the hosts that a wave has.";
    deploy_soak_seconds = field (types.ints.between 0 2592000) 0 3600 ''
      Seconds that a wave must be healthy with a new build, before the next one takes it.
    '';
    flake_input_overrides = field (types.attrsOf (types.submodule { options = inputOverride; })) { } {
      nixpkgs.url = "github:NixOS/nixpkgs/nixos-unstable";
    } "Of inputs, by their names: `url`, or `keep_url = true`.";
    triggers = field (types.nullOr (types.listOf (types.submodule { options = trigger; }))) null [
      {
        type = "polling";
        config.interval_secs = 60;
      }
    ] "What begins evaluations; null leaves it alone.";
    actions = list action [
      {
        name = "mail";
        type = "send_mail";
        config.recipients = [ "ops@example.com" ];
        events = [ "evaluation.failed" ];
      }
    ] "What is done about evaluations; actions that are not named go.";
    created_by = creator;
  } {
    web = {
      organization = "acme";
      repository = "https://forge.example.com/acme/web.git";
      created_by = "alice";
    };
  } "Repositories that are evaluated and built.";
}
