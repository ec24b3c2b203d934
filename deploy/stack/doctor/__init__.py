"""What is wrong with the machine and the stack, each thing with what mends it: `make doctor`. It changes nothing."""
