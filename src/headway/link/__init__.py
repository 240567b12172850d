"""The link between gateway and control: messages and frames. Both sides speak these and neither imports the other."""
