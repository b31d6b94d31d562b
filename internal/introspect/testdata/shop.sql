-- A shop with orders after the public description of Northwind, with the
-- names of the original: mixed case, and one with a blank. Text keys, composite
-- keys, a table that refers to itself, a foreign key to a unique column.
CREATE TABLE "Categories" (
  "CategoryID" smallint PRIMARY KEY,
  "CategoryName" varchar(15) NOT NULL UNIQUE,
  "Description" text,
  "Picture" bytea
);
CREATE TABLE "CustomerDemographics" (
  "CustomerTypeID" varchar(10) PRIMARY KEY,
  "CustomerDesc" text
);
CREATE TABLE "Customers" (
  "CustomerID" varchar(5) PRIMARY KEY,
  "CompanyName" varchar(40) NOT NULL,
  "ContactName" varchar(30),
  "City" varchar(15),
  "Country" varchar(15)
);
CREATE TABLE "CustomerCustomerDemo" (
  "CustomerID" varchar(5) NOT NULL REFERENCES "Customers",
  "CustomerTypeID" varchar(10) NOT NULL REFERENCES "CustomerDemographics",
  PRIMARY KEY ("CustomerID", "CustomerTypeID")
);
CREATE TABLE "Employees" (
  "EmployeeID" smallint PRIMARY KEY,
  "LastName" varchar(20) NOT NULL,
  "FirstName" varchar(10) NOT NULL,
  "ReportsTo" smallint REFERENCES "Employees"
);
CREATE TABLE "Region" (
  "RegionID" smallint PRIMARY KEY,
  "RegionDescription" varchar(60) NOT NULL
);
CREATE TABLE "Territories" (
  "TerritoryID" varchar(20) PRIMARY KEY,
  "TerritoryDescription" varchar(60) NOT NULL,
  "RegionID" smallint NOT NULL REFERENCES "Region"
);
CREATE TABLE "EmployeeTerritories" (
  "EmployeeID" smallint NOT NULL REFERENCES "Employees",
  "TerritoryID" varchar(20) NOT NULL REFERENCES "Territories",
  PRIMARY KEY ("EmployeeID", "TerritoryID")
);
CREATE TABLE "Shippers" (
  "ShipperID" smallint PRIMARY KEY,
  "CompanyName" varchar(40) NOT NULL,
  "Phone" varchar(24)
);
CREATE TABLE "Suppliers" (
  "SupplierID" smallint PRIMARY KEY,
  "CompanyName" varchar(40) NOT NULL,
  "HomePage" text
);
CREATE TABLE "Products" (
  "ProductID" smallint PRIMARY KEY,
  "ProductName" varchar(40) NOT NULL,
  "SupplierID" smallint REFERENCES "Suppliers",
  "CategoryID" smallint REFERENCES "Categories",
  "UnitPrice" real,
  "UnitsInStock" smallint,
  "Discontinued" integer NOT NULL
);
CREATE TABLE "Orders" (
  "OrderID" integer PRIMARY KEY,
  "CustomerID" varchar(5) REFERENCES "Customers",
  "EmployeeID" smallint REFERENCES "Employees",
  "OrderDate" date,
  "ShippedDate" date,
  "ShipVia" smallint REFERENCES "Shippers",
  "Freight" real
);
CREATE TABLE "Order Details" (
  "OrderID" integer NOT NULL REFERENCES "Orders" ON DELETE CASCADE,
  "ProductID" smallint NOT NULL REFERENCES "Products",
  "UnitPrice" real NOT NULL,
  "Quantity" smallint NOT NULL,
  "Discount" real NOT NULL,
  PRIMARY KEY ("OrderID", "ProductID")
);
CREATE TABLE "Promotions" (
  "PromotionID" integer PRIMARY KEY,
  "CategoryName" varchar(15) NOT NULL REFERENCES "Categories" ("CategoryName"),
  "Percent" smallint NOT NULL
);
CREATE VIEW "Current Product List" AS
  SELECT "ProductID", "ProductName" FROM "Products" WHERE "Discontinued" = 0;

INSERT INTO "Categories" VALUES (1, 'Beverages'), (2, 'Condiments');
INSERT INTO "Customers" VALUES ('ALFKI', 'Alfreds Futterkiste'), ('ANATR', 'Ana Trujillo Emparedados');
INSERT INTO "Employees" VALUES (2, 'Fuller', 'Andrew', NULL), (1, 'Davolio', 'Nancy', 2);
INSERT INTO "Shippers" VALUES (1, 'Speedy Express');
INSERT INTO "Suppliers" VALUES (1, 'Exotic Liquids');
INSERT INTO "Products" VALUES (1, 'Chai', 1, 1, 18, 39, 0), (2, 'Chang', 1, 1, 19, 17, 0);
INSERT INTO "Orders" VALUES (10248, 'ALFKI', 1, '1996-07-04', NULL, 1, 32.38);
INSERT INTO "Order Details" VALUES (10248, 1, 14, 12, 0), (10248, 2, 9.8, 10, 0);
