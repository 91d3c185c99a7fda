# shellcheck shell=sh
# Sourced by the hooks.

# retry COMMAND [ARGUMENT...]: runs it until it succeeds, at most 20 times, 15 seconds apart. New roles and
# new apps take minutes until Azure knows them everywhere.
retry() {
    attempt=1
    until "$@"; do
        if [ "$attempt" -ge 20 ]; then
            echo "Gave up on $1 after $attempt attempts." >&2
            return 1
        fi
        attempt=$((attempt + 1))
        sleep 15
    done
}
