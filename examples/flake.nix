# A flake without inputs: everything below is built by /bin/sh alone, with no other program and no network.
{
  description = "Four packages that depend on each other, and a check";

  outputs =
    { self }:
    let
      systems = [
        "x86_64-linux"
        "aarch64-linux"
      ];
      forEachSystem =
        make:
        builtins.listToAttrs (
          map (system: {
            name = system;
            value = make system;
          }) systems
        );

      # A derivation whose outputs are text files, written by a shell script. Other packages are named in `inputs`:
      # the script finds each one's file in the variable of that name.
      textPackage =
        system:
        {
          name,
          script,
          inputs ? { },
          outputs ? [ "out" ],
        }:
        derivation (
          inputs
          // {
            inherit name system outputs;
            builder = "/bin/sh";
            args = [
              "-eu"
              "-c"
              script
            ];
          }
        );
    in
    {
      packages = forEachSystem (
        system:
        let
          package = textPackage system;
        in
        rec {
          # Two outputs: what others use, and its documentation.
          names = package {
            name = "names-1.0";
            outputs = [
              "out"
              "doc"
            ];
            script = ''
              printf '%s\n' Ada Grace Margaret > "$out"
              echo "names: one first name a line" > "$doc"
            '';
          };

          greeting = package {
            name = "greeting-1.0";
            script = ''
              echo "Hello" > "$out"
            '';
          };

          # Needs the two above.
          letters = package {
            name = "letters-1.0";
            inputs = { inherit names greeting; };
            script = ''
              read -r greeting < "$greeting"
              while read -r name; do
                echo "writing to $name"
                echo "$greeting, $name!" >> "$out"
              done < "$names"
            '';
          };

          # Refers to the file of another package, so that whoever fetches this one gets that one too.
          default = package {
            name = "post-1.0";
            inputs = {
              inherit letters;
              documentation = names.doc;
            };
            script = ''
              while read -r line; do echo "$line"; done < "$letters"
              echo "letters: $letters" > "$out"
              echo "about the names: $documentation" >> "$out"
            '';
          };
        }
      );

      checks = forEachSystem (system: {
        # Fails, and says why, when a letter does not begin with the greeting.
        letters-greet = textPackage system {
          name = "letters-greet";
          inputs = { inherit (self.packages.${system}) letters; };
          script = ''
            count=0
            while read -r line; do
              case "$line" in
                "Hello, "*) count=$((count + 1)) ;;
                *) echo "this letter does not greet: $line"; exit 1 ;;
              esac
            done < "$letters"
            echo "$count letters greet"
            echo "$count" > "$out"
          '';
        };
      });
    };
}
