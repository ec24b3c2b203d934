"""What all readers of sources share; none of it knows a reader."""
