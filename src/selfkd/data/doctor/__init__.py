"""The data doctor finds what is wrong or strange in a data set before hours are spent on it.

`checking` lists the data set, opens its images and applies the checks of `layout` and `checks`. `findings` holds the
report that a user sees.
"""
