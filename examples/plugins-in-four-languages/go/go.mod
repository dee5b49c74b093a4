module parcels

go 1.25
