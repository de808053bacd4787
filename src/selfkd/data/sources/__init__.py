"""Data sets. Each class finds the images and labels of one data set and says which split trains and which tests.

`base` holds what all data sets do; the names are in the table `selfkd.data.DATASETS`.
"""
