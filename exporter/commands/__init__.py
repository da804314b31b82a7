"""The commands that are larger than a few lines, one file each; `options` holds what all commands share."""
