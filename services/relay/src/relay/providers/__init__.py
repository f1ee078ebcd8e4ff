"""What Ownpost knows of the companies that carry its mail: presets as data, the operator's own table on top, and the
values that delivery works with.
"""
