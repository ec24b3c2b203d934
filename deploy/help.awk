# Prints a Makefile's own documentation: "##> heading", "target: ## what it does", "##| a line as it stands".
/^##> / { printf "\n%s\n", substr($0, 5); next }
/^##[|] / { printf "  %s\n", substr($0, 5); next }
/^[a-z-]+:.*## / { split($0, parts, /:.*## /); printf "  make %-14s %s\n", parts[1], parts[2] }
